-- Adds a batch of delayed messages, unless its producer has added it before.
--
-- Needs producer_sequence.lua.
--
-- KEYS[1]  sorted set: the delayed messages of a queue, scored by due time in ms of Unix time
-- KEYS[2]  string: number of the last batch that the producer added
-- ARGV[1]  number of this batch
-- ARGV[2]  ms; delay of the first message
-- ARGV[3]  the first message with its unique prefix; further pairs follow
-- Returns 1; or else, with nothing done, what KEYS[2] holds: the number of this batch if it was added
-- before, or something else, up to 20 characters.

-- First, so that nothing is added if an ACL refuses this key.
local last = record_batch(KEYS[2], ARGV[1])
if last then
  return last
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
