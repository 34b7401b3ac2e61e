-- Deletes schedules.
--
-- Needs schedule_index.lua.
--
-- KEYS[1]  the first of the six keys of schedule_index.lua
-- KEYS[7]  string: the bytes of a schedule; further ones follow
-- ARGV     the IDs of the schedules
-- Returns how many of them existed, and how many schedules are left.

-- Before the first change, so that an error leaves nothing half done.
for index = 7, #KEYS do
  local failure = wrong_type(KEYS[index], 'string')
  if failure then
    return failure
  end
end
local existed = {}
for index, id in ipairs(ARGV) do
  local deleted = redis.call('DEL', KEYS[index + 6])
  if redis.call('ZREM', due, id) + deleted > 0 then
    existed[#existed + 1] = id
  end
  redis.call('HDEL', fired, id)
  redis.call('HDEL', claims, id)
end
record_changes(existed)
return {#existed, redis.call('ZCARD', due)}
