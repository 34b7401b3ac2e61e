-- Stores a result, and tells whoever waits for it.
--
-- KEYS[1]  the result; it is also the channel on which its arrival is published
-- ARGV[1]  the result's bytes
-- ARGV[2]  'EX' or 'PX', if the result is not kept for ever
-- ARGV[3]  how long it is kept, in s or ms
-- Returns 1.

local command = {'SET', KEYS[1], ARGV[1], 'GET'}
for index = 2, #ARGV do
  command[#command + 1] = ARGV[index]
end
-- With GET, it fails where there is a queue, say, instead of overwriting it.
redis.call(unpack(command))
-- That this user may not publish, or this server doesn't let scripts do it, loses no result.
-- On a cluster, SPUBLISH would keep it on its node; but Valkey 9.1.2 ends with a failed assertion when
-- that comes to a node that hasn't agreed with the others yet about which shard it is of.
redis.pcall('PUBLISH', KEYS[1], '')
return 1
