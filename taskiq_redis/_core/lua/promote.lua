-- Moves delayed messages that are due to their queue.
--
-- Needs task_records.lua.
--
-- KEYS[1]  stream or list: the queue
-- KEYS[2]  sorted set: the delayed messages, scored by due time in ms of Unix time
-- KEYS[3]  sorted set: the records of tasks; left out if they are not tracked
-- ARGV[1]  maximum number of messages to move
-- ARGV[2]  length of the unique prefix of each message
-- ARGV[3]  command that adds a message, such as XADD
-- ARGV[4]  its first argument between the queue and the message; further arguments follow
-- Returns the time in ms until the next message is due, 0 if it is overdue; or -1 if there is none.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local command = {ARGV[3], KEYS[1], unpack(ARGV, 4)}
local last = #command + 1
local due = redis.call('ZRANGE', KEYS[2], '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[1])
for _, member in ipairs(due) do
  command[last] = string.sub(member, ARGV[2] + 1)
  -- Before ZREM, so that an error, such as WRONGTYPE, loses no message.
  local reply = redis.call(unpack(command))
  redis.call('ZREM', KEYS[2], member)
  if KEYS[3] then
    change_record(KEYS[3], score_of_added(reply, now), digest_in(member))
  end
end
local first = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
return first[2] and math.max(0, first[2] - now) or -1
