-- Removes IDs from the index whose schedules are gone: 1.2.4 deletes only the bytes.
--
-- Needs schedule_index.lua.
--
-- KEYS[1]  the first of the six keys of schedule_index.lua
-- KEYS[7]  string: the bytes of a schedule; further ones follow
-- ARGV     the IDs of the schedules
-- Returns the IDs whose keys hold something else, and how many schedules are left.

local others = {}
for index, id in ipairs(ARGV) do
  if redis.call('EXISTS', KEYS[index + 6]) == 0 then
    redis.call('ZREM', due, id)
    redis.call('HDEL', fired, id)
    redis.call('HDEL', claims, id)
  else
    others[#others + 1] = id
  end
end
return {others, redis.call('ZCARD', due)}
