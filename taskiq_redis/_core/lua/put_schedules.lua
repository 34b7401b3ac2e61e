-- Adds schedules, or replaces those with their IDs.
--
-- Needs schedule_index.lua.
-- Needs schedule_put.lua.
--
-- KEYS[1]  the first of the six keys of schedule_index.lua
-- KEYS[7]  the first pair of keys, see schedule_put.lua
-- ARGV[1]  1 to replace bytes that don't belong to a schedule in the index, else 0
-- ARGV[2]  the first group of arguments
-- Returns the IDs whose keys hold bytes of something that isn't in the index; if there are any,
-- nothing was added.

local failure = check_keys(7)
if failure then
  return failure
end
local taken = {}
for index = 7, #KEYS, 2 do
  local id = ARGV[2 * index - 12]
  if ARGV[1] == '0' and redis.call('EXISTS', KEYS[index]) == 1 and not redis.call('ZSCORE', due, id) then
    taken[#taken + 1] = id
  end
end
if #taken > 0 then
  return taken
end
local ids = {}
for index = 7, #KEYS, 2 do
  local place = 2 * index - 12
  put(KEYS[index], KEYS[index + 1], unpack(ARGV, place, place + 3))
  ids[#ids + 1] = ARGV[place]
end
record_changes(ids)
return {}
