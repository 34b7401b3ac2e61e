-- Moves messages that are due from the delayed ones to their queue.
--
-- KEYS[1]  stream or list: the queue
-- KEYS[2]  sorted set: the delayed messages, scored by when they are due, in ms of Unix time
-- ARGV[1]  most messages
-- ARGV[2]  how many bytes of each are there only to make it unique
-- ARGV[3]  the command that adds a message, such as XADD
-- ARGV[4]  its arguments between the queue and the message
-- Returns in how many ms the next one is due, 0 for now; or -1 if there is none.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local command = {ARGV[3], KEYS[1], unpack(ARGV, 4)}
local last = #command + 1
local due = redis.call('ZRANGE', KEYS[2], '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[1])
for _, member in ipairs(due) do
  command[last] = string.sub(member, ARGV[2] + 1)
  -- First, so that an error, such as one of the key's type, leaves the message where it is.
  redis.call(unpack(command))
  redis.call('ZREM', KEYS[2], member)
end
local first = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
return first[2] and math.max(0, first[2] - now) or -1
