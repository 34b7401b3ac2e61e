-- Returns the status of a tracked task.
--
-- Needs group_progress.lua.
-- Needs task_records.lua.
--
-- KEYS[1]  stream or list: the queue
-- KEYS[2]  sorted set: the records of tasks
-- KEYS[3]  sorted set: the delayed messages, scored by due time in ms of Unix time
-- ARGV[1]  digest of the task ID
-- ARGV[2]  group of the workers; '' for a list
-- ARGV[3]  consumer for which handed-back entries are pending
-- Returns nothing without a record; else 'delayed', 'dead', 'queued', 'running', 'done' or 'lost', or
-- 'sent' for a list; a time in ms of Unix time, as text; and if it is running, the consumer and the
-- number of deliveries.

-- Maximum number of delayed messages to look at.
local MAX_DELAYED = 1000

local score = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[1]) or nil)
if not score or score < 0 or score >= END_OF_TIME * FACTOR then
  return {}
end
local number = score % FACTOR
local time = string.format('%.0f', (score - number) / FACTOR)

if number == DELAYED then
  local due = redis.call('ZRANGE', KEYS[3], time, time, 'BYSCORE', 'LIMIT', 0, MAX_DELAYED)
  for _, member in ipairs(due) do
    if digest_in(member) == ARGV[1] then
      return {'delayed', time}
    end
  end
  return {#due == MAX_DELAYED and 'delayed' or 'lost', time}
elseif number == DEAD then
  return {'dead', time}
elseif ARGV[2] == '' then
  return {'sent', time}
end

local id = string.format('%s-%.0f', time, number)
-- Without the stream or the group, the reply is an error, and nothing is pending.
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[2], id, id, 1)[1]
if pending then
  local _, owner, idle, deliveries = unpack(pending)
  if owner == ARGV[3] then
    return {'queued', time}
  end
  -- Renewing a lease resets the idle time; before the first time, renew.lua records the beginning.
  local began = redis.call('ZSCORE', KEYS[2], began_member(id, owner, deliveries))
  began = began and math.floor(began / FACTOR) or current_time() - idle
  return {'running', string.format('%.0f', began), owner, deliveries}
end
local exists = #redis.pcall('XRANGE', KEYS[1], id, id) > 0
for _, group in ipairs(other_groups(KEYS[1], '')) do
  if group['name'] == ARGV[2] and not is_after(id, group['last-delivered-id']) then
    return {'done', time}
  end
end
return {exists and 'queued' or 'lost', time}
