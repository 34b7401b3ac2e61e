-- Moves delayed messages that are due to their queue, and checks whether the queue is paused.
--
-- Needs task_records.lua.
--
-- KEYS[1]  stream or list: the queue
-- KEYS[2]  sorted set: the delayed messages, scored by due time in ms of Unix time
-- KEYS[3]  string: exists while the queue is paused
-- KEYS[4]  sorted set: the records of tasks; left out if they are not tracked
-- ARGV[1]  maximum number of messages to move
-- ARGV[2]  length of the unique prefix of each message
-- ARGV[3]  command that adds a message, such as XADD
-- ARGV[4]  its first argument between the queue and the message; further arguments follow
-- Returns 1 if the queue is paused, or 0; and the time in ms until the next message is due, 0 if it is
-- overdue, -1 if there is none, or the error because of which messages could not be moved.

local paused = redis.call('EXISTS', KEYS[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local command = {ARGV[3], KEYS[1], unpack(ARGV, 4)}
local last = #command + 1
local due = redis.pcall('ZRANGE', KEYS[2], '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[1])
if due.err then
  return {paused, due}
end
for _, member in ipairs(due) do
  command[last] = string.sub(member, ARGV[2] + 1)
  -- Before ZREM, so that an error, such as WRONGTYPE, loses no message.
  local reply = redis.pcall(unpack(command))
  if type(reply) == 'table' and reply.err then
    return {paused, reply}
  end
  redis.call('ZREM', KEYS[2], member)
  if KEYS[4] then
    change_record(KEYS[4], score_of_added(reply, now), digest_in(member))
  end
end
local first = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
return {paused, first[2] and math.max(0, first[2] - now) or -1}
