-- Acknowledges entries of a stream, and deletes those that no other group still has to work on.
--
-- Needs group_progress.lua.
--
-- KEYS[1]  stream
-- ARGV[1]  the group that has done its work
-- ARGV[2]  id of an entry, and so on for all entries
-- Returns how many entries were deleted.

redis.call('XACK', KEYS[1], unpack(ARGV))

local others = other_groups(KEYS[1], ARGV[1])
local deleted = 0
for index = 2, #ARGV do
  if not is_needed(KEYS[1], others, ARGV[index]) then
    deleted = deleted + redis.call('XDEL', KEYS[1], ARGV[index])
  end
end
return deleted
