-- Adds a batch of messages to a queue, unless its producer has added that batch before.
--
-- KEYS[1]  stream or list: the queue
-- KEYS[2]  string: the number of the last batch that the producer added
-- ARGV[1]  number of this batch
-- ARGV[2]  ms; how long the producer's number is kept
-- ARGV[3]  the command that adds a message, such as XADD
-- ARGV[4]  how many arguments it has between the queue and the message
-- ARGV[5]  those arguments, and then all messages
-- Returns 1; or 0, with nothing done, if the batch was there already.

local number = tonumber(ARGV[1])
if tonumber(redis.call('GET', KEYS[2]) or 0) >= number then
  return 0
end
-- First, as a user who may not set this key must not have added anything.
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
local first = 5 + ARGV[4]
local command = {ARGV[3], KEYS[1]}
for index = 5, first - 1 do
  command[#command + 1] = ARGV[index]
end
local last = #command + 1
for index = first, #ARGV do
  command[last] = ARGV[index]
  local reply = redis.pcall(unpack(command))
  if type(reply) == 'table' and reply.err then
    if index == first then
      redis.call('SET', KEYS[2], number - 1, 'PX', ARGV[2])
    end
    return reply
  end
end
return 1
