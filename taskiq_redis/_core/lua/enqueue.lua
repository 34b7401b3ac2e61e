-- Adds a batch of messages to a queue, unless its producer has added it before.
--
-- Needs producer_sequence.lua.
--
-- KEYS[1]  stream or list: the queue
-- KEYS[2]  string: number of the last batch that the producer added
-- ARGV[1]  number of this batch
-- ARGV[2]  command that adds a message, without queue and message, such as 'XADD * data'
-- ARGV[3]  the first message; further messages follow
-- Returns 1; or else, with nothing done, what KEYS[2] holds: the number of this batch if it was added
-- before, or something else, up to 20 characters.

-- First, so that nothing is added if an ACL refuses this key.
local last = record_batch(KEYS[2], ARGV[1])
if last then
  return last
end
local command = {}
for word in string.gmatch(ARGV[2], '%S+') do
  command[#command + 1] = word
end
table.insert(command, 2, KEYS[1])
local place = #command + 1
for index = 3, #ARGV do
  command[place] = ARGV[index]
  local reply = redis.pcall(unpack(command))
  if type(reply) == 'table' and reply.err then
    if index == 3 then
      forget_batch(KEYS[2], ARGV[1])
    end
    return reply
  end
end
return 1
