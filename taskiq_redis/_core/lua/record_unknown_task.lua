-- Records when a message of a list was first refused, since a worker doesn't know its task.
--
-- KEYS[1]  sorted set: digests of messages, scored by when they were refused, in ms of Unix time
-- ARGV[1]  digest of the message
-- ARGV[2]  ms; time since then after which the message becomes a dead letter
-- ARGV[3]  ms; time after which digests are deleted, since another worker has run the message
-- ARGV[4]  maximum number of digests
-- Returns for how many ms it has been refused; then its digest is deleted if it becomes a dead letter.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[3])
redis.call('ZADD', KEYS[1], 'NX', now, ARGV[1])
local refused = now - redis.call('ZSCORE', KEYS[1], ARGV[1])
if refused >= tonumber(ARGV[2]) then
  redis.call('ZREM', KEYS[1], ARGV[1])
else
  redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -ARGV[4] - 1)
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return refused
