-- Acknowledges entries of a stream, and deletes those that no other group needs.
--
-- Needs group_progress.lua.
--
-- KEYS[1]  stream
-- ARGV[1]  group that acknowledges
-- ARGV[2]  ID of an entry; further IDs follow
-- Returns the number of deleted entries.

redis.call('XACK', KEYS[1], unpack(ARGV))

local others = other_groups(KEYS[1], ARGV[1])
local deleted = 0
for index = 2, #ARGV do
  if not is_needed(KEYS[1], others, ARGV[index]) then
    deleted = deleted + redis.call('XDEL', KEYS[1], ARGV[index])
  end
end
return deleted
