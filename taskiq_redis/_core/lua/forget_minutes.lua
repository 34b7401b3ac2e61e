-- Forgets minutes whose schedules are all gone.
--
-- KEYS[1]  sorted set: the minutes that have schedules
-- KEYS[2]  list: the ids of the schedules of a minute; further ones follow
-- ARGV     the minutes, in the order of their lists
-- Returns the number of minutes that were forgotten.

local forgotten = 0
for index, minute in ipairs(ARGV) do
  if redis.call('EXISTS', KEYS[index + 1]) == 0 then
    forgotten = forgotten + redis.call('ZREM', KEYS[1], minute)
  end
end
return forgotten
