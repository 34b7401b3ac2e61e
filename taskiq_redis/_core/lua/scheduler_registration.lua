-- Functions for scripts that register a scheduler.
--
-- Each scheduler has a field in a hash: `<ms between registrations> <when it registered last>
-- <when it started> <process ID> <version> <host>`, with times in ms of Unix time.

-- ms; a scheduler that hasn't registered for so long is removed.
local FORGOTTEN = 3600000

local function is_forgotten(value, now)
  local interval, seen = string.match(value, '^(%d+) (%d+) ')
  return not seen or now - seen > math.max(FORGOTTEN, 10 * interval)
end

-- Registers a scheduler, and returns the text of an error, or ''.
local function register_scheduler(key, name, interval, age, process)
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local value = table.concat({interval, now, now - age, process}, ' ')
  -- Redis refuses HSET while its memory is full, unless the script has written before. So PEXPIRE
  -- comes first; after HSET, only a new hash needs a TTL.
  local ttl = math.max(FORGOTTEN, 10 * interval)
  local existed = redis.pcall('PEXPIRE', key, ttl) == 1
  local reply = redis.pcall('HSET', key, name, value)
  if type(reply) == 'table' and reply.err then
    return reply.err
  end
  if not existed then
    redis.pcall('PEXPIRE', key, ttl)
  end
  -- Without the right to read the hash, those that were killed stay in it.
  local others = reply == 1 and redis.pcall('HGETALL', key) or {}
  for index = 1, #others, 2 do
    if is_forgotten(others[index + 1], now) then
      redis.pcall('HDEL', key, others[index])
    end
  end
  return ''
end
