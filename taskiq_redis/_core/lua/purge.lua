-- Deletes dead letters, and with the last of them their stream.
--
-- KEYS[1]  stream of dead letters
-- ARGV[1]  id of a dead letter, and so on
-- Returns how many were deleted.

local deleted = redis.call('XDEL', KEYS[1], unpack(ARGV))
if redis.call('XLEN', KEYS[1]) == 0 then
  redis.call('DEL', KEYS[1])
end
return deleted
