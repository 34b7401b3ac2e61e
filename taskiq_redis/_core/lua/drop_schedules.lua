-- Deletes schedules.
--
-- Needs schedule_index.lua.
--
-- KEYS[1]  the first of the six keys of schedule_index.lua
-- KEYS[7]  string: the bytes of a schedule; further ones follow
-- ARGV     the IDs of the schedules
-- Returns how many of them existed, and how many schedules are left.

-- Before the first change, so that an error leaves nothing half done.
local failure = wrong_type(due, 'zset') or wrong_type(meta, 'hash') or wrong_type(changes, 'list')
for index = 7, #KEYS do
  failure = failure or wrong_type(KEYS[index], 'string')
end
if failure then
  return failure
end
local existed = 0
for index, id in ipairs(ARGV) do
  existed = existed + redis.call('DEL', KEYS[index + 6])
  redis.call('ZREM', due, id)
  redis.call('HDEL', fired, id)
  redis.call('HDEL', claims, id)
end
if existed > 0 then
  record_changes(ARGV)
end
return {existed, redis.call('ZCARD', due)}
