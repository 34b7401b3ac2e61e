-- Functions for other scripts: the records of tracked tasks, in a sorted set.
--
-- A member is the digest of a task ID. Its score is a time in ms of Unix time, multiplied by FACTOR,
-- plus the sequence number of the task's entry in a stream, or one of the marks below. So the oldest
-- records have the lowest scores, and none needs more than about 100 bytes. Further members say when
-- a worker began with an entry.

local FACTOR = 2048
-- The task is delayed until this time, or it was moved to the dead letters then.
local DELAYED, DEAD = 2047, 2046
-- Field of a dead letter with the digest of its task ID.
local DIGEST_FIELD = 'dead-task'
-- ms; times before it are exact in a score, in the year 2109, too.
local END_OF_TIME = 2 ^ 42

-- Returns the current time in ms of Unix time.
local function current_time()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Returns the score for a time, and a sequence number or mark; nil if it would not be exact.
local function score_of(time, number)
  if time < END_OF_TIME then
    return string.format('%.0f', time * FACTOR + number)
  end
end

-- Returns the score for what XADD or LPUSH has returned; nil for an ID that no score can hold.
local function score_of_added(reply, now)
  if type(reply) == 'number' then
    return score_of(now, 0)
  end
  local time, number = string.match(reply, '^(%d+)-(%d+)$')
  if tonumber(number) < DEAD then
    return score_of(tonumber(time), tonumber(number))
  end
end

-- Returns the digest in the unique prefix of a delayed message, after its random part.
local function digest_in(member)
  return string.sub(member, 7, 16)
end

-- Records tasks, given scores and digests in turn, and forgets records that are older than the TTL,
-- at most as many as twice the number of tasks. Returns the error of Redis, if there is one.
local function record_tasks(key, ttl, now, records)
  if #records == 0 then
    return nil
  end
  local reply = redis.pcall('ZADD', key, unpack(records))
  local old = redis.pcall('ZRANGE', key, '-inf', string.format('(%.0f', (now - ttl) * FACTOR),
    'BYSCORE', 'LIMIT', 0, #records)
  local last = redis.pcall('ZRANGE', key, -1, -1, 'WITHSCORES')
  if type(reply) == 'table' or old.err or last.err then
    return type(reply) == 'table' and reply.err or old.err or last.err
  end
  if #old > 0 then
    reply = redis.pcall('ZREM', key, unpack(old))
  end
  -- The score may be one that another program has written, such as inf.
  local left = math.max(0, math.min(math.floor(last[2] / FACTOR), END_OF_TIME) - now) + ttl
  local expiry = redis.pcall('PEXPIRE', key, string.format('%.0f', left))
  return type(reply) == 'table' and reply.err or type(expiry) == 'table' and expiry.err or nil
end

-- Changes the record of a task, if it is kept; an error does no harm.
local function change_record(key, score, digest)
  if score then
    redis.pcall('ZADD', key, 'XX', score, digest)
  end
end

-- Forgets the record of an entry of a stream, whose task will never run; an error does no harm.
local function forget_entry(key, id)
  local score = score_of_added(id)
  local members = score and redis.pcall('ZRANGE', key, score, score, 'BYSCORE') or {}
  for _, member in ipairs(members) do
    -- Not when a worker began with another entry.
    if not string.find(member, ' ', 1, true) then
      redis.pcall('ZREM', key, member)
    end
  end
end

-- Records that a task was moved to the dead letters, given names and values of the letter's fields.
local function record_death(key, fields, first)
  for index = first, #fields, 2 do
    if fields[index] == DIGEST_FIELD then
      change_record(key, score_of(current_time(), DEAD), fields[index + 1])
    end
  end
end

-- Returns the member that records when a consumer began with an entry.
local function began_member(id, owner, deliveries)
  return id .. ' ' .. deliveries .. ' ' .. owner
end

-- Records when a consumer began with a pending entry, a row of XPENDING, unless that is recorded.
local function record_beginning(key, now, entry)
  local id, owner, idle, deliveries = unpack(entry)
  local score = score_of(now - idle, 0)
  -- Another key would need an expiry time.
  if score and redis.pcall('EXISTS', key) == 1 then
    redis.pcall('ZADD', key, 'NX', score, began_member(id, owner, deliveries))
  end
end
