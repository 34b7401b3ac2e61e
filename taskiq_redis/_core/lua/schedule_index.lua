-- Functions for scripts that read or change the index of schedules.
--
-- KEYS[1]  sorted set `due`: the ID of each schedule, scored by its due time in ms; 0 for crons and
--          intervals, inf while it is paused
-- KEYS[2]  hash `meta`: `version`, which grows with every change, and `list <key>` for each list
--          of 1.2.4: its length, first and last ID when all of its IDs were in `due`
-- KEYS[3]  list `changes`: the IDs that changed last, newest first, one per version
-- KEYS[4]  sorted set `minutes`: the minutes that have a list, scored by their start in ms
-- KEYS[5]  hash `fired`: when a cron or interval was sent last, in ms
-- KEYS[6]  hash `claims`: the schedules being sent: `<end of the lease in ms> <token>`

local due, meta, changes, minutes, fired, claims = unpack(KEYS, 1, 6)

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Returns an error reply if a key has another type than expected.
local function wrong_type(key, expected)
  local found = redis.call('TYPE', key).ok
  if found ~= 'none' and found ~= expected then
    return redis.error_reply('WRONGTYPE ' .. key .. ' is a ' .. found .. ', not a ' .. expected)
  end
end

-- Raises the version by the number of changes. A new version starts at the time in microseconds,
-- so that no version occurs twice, even after FLUSHALL.
local function raise_version(number)
  local time = redis.call('TIME')
  local new = time[1] .. string.format('%06d', time[2])
  redis.call('HSETNX', meta, 'version', new)
  local reply = redis.pcall('HINCRBY', meta, 'version', number)
  if type(reply) == 'table' and reply.err then
    -- Another program has replaced it by something that can't be raised.
    redis.call('HSET', meta, 'version', new)
  end
end

-- Records that schedules changed, so that readers read them again.
local function record_changes(ids)
  if #ids == 0 then
    return
  end
  for _, id in ipairs(ids) do
    redis.call('LPUSH', changes, id)
  end
  redis.call('LTRIM', changes, 0, 999)
  raise_version(#ids)
end

-- Describes a list in constant time: its length, first and last ID; '' if it is empty.
local function state_of(list)
  local length = redis.call('LLEN', list)
  if length == 0 then
    return ''
  end
  return length .. ' ' .. redis.call('LINDEX', list, 0) .. ' ' .. redis.call('LINDEX', list, -1)
end

-- Returns whether all IDs of a list are in `due`, as far as its state shows.
local function is_indexed(list)
  return state_of(list) == (redis.call('HGET', meta, 'list ' .. list) or '')
end

local function set_indexed(list)
  if redis.call('EXISTS', list) == 0 then
    redis.call('HDEL', meta, 'list ' .. list)
  else
    redis.call('HSET', meta, 'list ' .. list, state_of(list))
  end
end

-- Adds the IDs that 1.2.4 wrote to a list. Returns whether the list had changed.
local function index_list(list, score, minute)
  if is_indexed(list) then
    return false
  end
  local now = now_ms()
  for _, id in ipairs(redis.call('LRANGE', list, 0, -1)) do
    local before = tonumber(redis.call('ZSCORE', due, id) or '')
    -- 1.2.4 may have replaced it by one that is due earlier. If the ID is only a rest of a former
    -- schedule, readers find that and correct it. They may skip minutes that are over.
    local earlier = before and before < math.huge and before - score >= 60000
    if not before or earlier and (score == '0' or score + 60000 > now) then
      redis.call('ZADD', due, score, id)
    end
  end
  set_indexed(list)
  if minute ~= '' and redis.call('EXISTS', list) == 1 then
    redis.call('ZADD', minutes, score, minute)
  end
  return true
end

-- Makes readers read everything again.
local function forget_changes()
  redis.call('DEL', changes)
  raise_version(1)
end

-- Returns the token of the scheduler that holds a claim, and the rest of its lease in ms.
local function holder_of(id, now)
  local ends, token = string.match(redis.call('HGET', claims, id) or '', '^(%d+) (.*)$')
  return token, (tonumber(ends) or 0) - now
end

-- Lets a token hold a claim. The hash expires with its last lease.
local function hold(id, token, now, lease)
  -- Redis refuses HSET while its memory is full, unless the script has written before.
  redis.call('HDEL', claims, id)
  redis.call('HSET', claims, id, string.format('%.0f ', now + lease) .. token)
  if redis.call('PTTL', claims) < tonumber(lease) then
    redis.call('PEXPIRE', claims, lease)
  end
end
