-- Stores a result or a progress, and notifies its waiters.
--
-- KEYS[1]  string: the result or progress; also the channel of the notification
-- ARGV[1]  its bytes
-- ARGV[2]  'EX' or 'PX'; left out if it is kept forever
-- ARGV[3]  how long it is kept, in s or ms
-- Returns 1.

local command = {'SET', KEYS[1], ARGV[1], 'GET'}
for index = 2, #ARGV do
  command[#command + 1] = ARGV[index]
end
-- With GET, SET fails on a key of another type, such as a queue, instead of overwriting it.
redis.call(unpack(command))
-- pcall, so that the result is stored even if this user or server doesn't let scripts publish.
-- Not SPUBLISH, which would reach fewer nodes of a cluster: it crashes Valkey 9.1.2 on a node that
-- doesn't know its shard yet.
redis.pcall('PUBLISH', KEYS[1], '')
return 1
