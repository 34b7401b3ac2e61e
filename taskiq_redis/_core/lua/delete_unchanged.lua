-- Deletes a key, unless its value was replaced.
--
-- KEYS[1]  string
-- ARGV[1]  SHA-1 digest of its bytes, in hex
-- Returns nothing.

local bytes = redis.call('GET', KEYS[1])
if bytes and redis.sha1hex(bytes) == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
