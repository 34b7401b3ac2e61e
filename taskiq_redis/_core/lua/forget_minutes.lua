-- Removes minutes that have no schedules any more.
--
-- KEYS[1]  sorted set: the minutes that have one-off schedules
-- KEYS[2]  list: the IDs of the schedules of a minute; further lists follow
-- ARGV     the minutes, in the order of their lists
-- Returns the number of removed minutes.

local removed = 0
for index, minute in ipairs(ARGV) do
  if redis.call('EXISTS', KEYS[index + 1]) == 0 then
    removed = removed + redis.call('ZREM', KEYS[1], minute)
  end
end
return removed
