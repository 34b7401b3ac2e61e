-- Adds a batch of messages that are due later, unless their producer has added that batch before.
--
-- Needs producer_sequence.lua.
--
-- KEYS[1]  sorted set: the delayed messages of a queue, scored by when they are due, in ms of Unix time
-- KEYS[2]  string: the number of the last batch that the producer added
-- ARGV[1]  number of this batch
-- ARGV[2]  ms; how long the first message waits
-- ARGV[3]  the first message, behind what makes it unique; and so on
-- Returns 1; or 0, with nothing done, if the batch was there already.

-- First, as a user who may not set this key must not have added anything.
if not note_batch(KEYS[2], ARGV[1]) then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for index = 2, #ARGV, 2 do
  local reply = redis.pcall('ZADD', KEYS[1], now + ARGV[index], ARGV[index + 1])
  if type(reply) == 'table' and reply.err then
    if index == 2 then
      forget_batch(KEYS[2], ARGV[1])
    end
    return reply
  end
end
return 1
