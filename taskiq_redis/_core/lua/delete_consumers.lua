-- Deletes consumers that have stopped. Those with pending entries are kept, as these would be lost.
--
-- KEYS[1]  stream
-- KEYS[2]  hash: the workers; see renew.lua
-- ARGV[1]  group
-- ARGV[2]  consumer that shuts down, or ''
-- ARGV[3]  ms; a consumer that was inactive for this long has stopped
-- Returns the number of deleted consumers.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local workers = {}
local registered = redis.call('HGETALL', KEYS[2])
for index = 1, #registered, 2 do
  workers[registered[index]] = registered[index + 1]
end

local function is_gone(name, idle)
  if name == ARGV[2] then
    return true
  end
  if not workers[name] then
    return idle >= tonumber(ARGV[3])
  end
  local lease, seen = string.match(workers[name] .. ' ', '^(%d+) (%d+) ')
  return not lease or now - seen >= math.max(ARGV[3], 10 * lease)
end

local deleted = 0
local busy = {}
-- Without the stream or the group, the reply is an error, and the loop does nothing.
local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])
for _, fields in ipairs(consumers) do
  local consumer = {}
  for index = 1, #fields, 2 do
    consumer[fields[index]] = fields[index + 1]
  end
  if consumer.pending > 0 then
    busy[consumer.name] = true
  elseif is_gone(consumer.name, consumer.idle) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer.name)
    deleted = deleted + 1
  end
end
for name in pairs(workers) do
  if not busy[name] and is_gone(name, 0) then
    redis.call('HDEL', KEYS[2], name)
  end
end
return deleted
