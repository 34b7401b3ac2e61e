-- Adds a batch of delayed messages, as delay.lua does, and records their tasks.
--
-- Needs producer_sequence.lua.
-- Needs task_records.lua.
--
-- KEYS[1]  sorted set: the delayed messages of a queue, scored by due time in ms of Unix time
-- KEYS[2]  string: number of the last batch that the producer added
-- KEYS[3]  sorted set: the records of tasks
-- ARGV[1]  number of this batch
-- ARGV[2]  ms; how long records are kept, from the due time on
-- ARGV[3]  ms; delay of the first message
-- ARGV[4]  the first message with its unique prefix, which ends with a digest of its task ID; further
--          pairs follow
-- Returns 1; or why the tasks could not be recorded, in a table; or else, with nothing done, what
-- KEYS[2] holds: the number of this batch if it was added before, or something else, up to 20
-- characters.

-- First, so that nothing is added if an ACL refuses this key.
local last = record_batch(KEYS[2], ARGV[1])
if last then
  return last
end
local now, records = current_time(), {}
for index = 3, #ARGV, 2 do
  local due = now + ARGV[index]
  local reply = redis.pcall('ZADD', KEYS[1], due, ARGV[index + 1])
  if type(reply) == 'table' and reply.err then
    if index == 3 then
      forget_batch(KEYS[2], ARGV[1])
    end
    return reply
  end
  local score = score_of(due, DELAYED)
  if score then
    records[#records + 1], records[#records + 2] = score, digest_in(ARGV[index + 1])
  end
end
local problem = record_tasks(KEYS[3], ARGV[2], now, records)
return problem and {problem} or 1
