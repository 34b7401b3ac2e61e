-- Changes the due times of schedules: pauses them, resumes them, or corrects the index.
--
-- Needs schedule_index.lua.
--
-- KEYS[1]  the first of the six keys of schedule_index.lua
-- KEYS[7]  string: the bytes of a schedule; further ones follow
-- ARGV     for each schedule its ID, the score that it must have or '' for any, and the new one
-- Returns the number of changed schedules.

local changed = {}
for index = 7, #KEYS do
  local id, old, new = unpack(ARGV, 3 * (index - 7) + 1, 3 * (index - 7) + 3)
  local score = redis.call('ZSCORE', due, id)
  -- A schedule of 1.2.4 may not be in the index yet.
  local exists = old == '' and redis.call('EXISTS', KEYS[index]) == 1
  if exists or score and tonumber(score) == tonumber(old) then
    redis.call('ZADD', due, new, id)
    changed[#changed + 1] = id
  end
end
record_changes(changed)
return #changed
