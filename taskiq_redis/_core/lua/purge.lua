-- Deletes dead letters, and their stream when it is empty.
--
-- KEYS[1]  stream of dead letters
-- ARGV[1]  ID of a dead letter; further IDs follow
-- Returns the number of deleted dead letters.

local deleted = redis.call('XDEL', KEYS[1], unpack(ARGV))
if redis.call('XLEN', KEYS[1]) == 0 then
  redis.call('DEL', KEYS[1])
end
return deleted
