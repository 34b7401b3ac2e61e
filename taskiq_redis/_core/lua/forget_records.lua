-- Removes what a source without an index stores besides its schedules.
--
-- Needs schedule_index.lua.
--
-- KEYS[1]  the first of the six keys of schedule_index.lua
-- ARGV     IDs of schedules that were deleted
-- Returns nothing.

for _, id in ipairs(ARGV) do
  redis.call('ZREM', due, id)
  redis.call('HDEL', fired, id)
  redis.call('HDEL', claims, id)
end
