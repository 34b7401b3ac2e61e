-- Adds a batch of messages to a queue, as enqueue.lua does, and records their tasks.
--
-- Needs producer_sequence.lua.
-- Needs task_records.lua.
--
-- KEYS[1]  stream or list: the queue
-- KEYS[2]  string: number of the last batch that the producer added
-- KEYS[3]  sorted set: the records of tasks
-- ARGV[1]  number of this batch
-- ARGV[2]  command that adds a message, without queue and message, such as 'XADD * data'
-- ARGV[3]  ms; how long records are kept
-- ARGV[4]  the first message
-- ARGV[5]  digest of its task ID; further pairs follow
-- Returns 1; or why the tasks could not be recorded, in a table; or else, with nothing done, what
-- KEYS[2] holds: the number of this batch if it was added before, or something else, up to 20
-- characters.

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
local place, now, records = #command + 1, current_time(), {}
for index = 4, #ARGV, 2 do
  command[place] = ARGV[index]
  local reply = redis.pcall(unpack(command))
  if type(reply) == 'table' and reply.err then
    if index == 4 then
      forget_batch(KEYS[2], ARGV[1])
    end
    return reply
  end
  local score = score_of_added(reply, now)
  if score then
    records[#records + 1], records[#records + 2] = score, ARGV[index + 1]
  else
    -- The record of an earlier message would be wrong.
    redis.pcall('ZREM', KEYS[3], ARGV[index + 1])
  end
end
local problem = record_tasks(KEYS[3], ARGV[3], now, records)
return problem and {problem} or 1
