-- Lets one process at a time migrate schedules.
--
-- KEYS[1]  hash: `lock`, as `<end of the lease in ms> <token>`, and `done <source>`, the migrations
--          that are not repeated
-- KEYS[2]  set: the IDs that the migration has added, see migrate_schedules.lua
-- ARGV[1]  lock, renew, finish or release
-- ARGV[2]  token of the process
-- ARGV[3]  ms; duration of the lease
-- ARGV[4]  the source; '' if the migration may be repeated
-- Returns {'go'}, {'done'}, or {'busy', ms until the lease ends}.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ends, token = string.match(redis.call('HGET', KEYS[1], 'lock') or '', '^(%d+) (.*)$')
if ARGV[1] == 'lock' then
  if ARGV[4] ~= '' and redis.call('HEXISTS', KEYS[1], 'done ' .. ARGV[4]) == 1 then
    return {'done'}
  end
  if token and token ~= ARGV[2] and tonumber(ends) > now then
    return {'busy', tonumber(ends) - now}
  end
  redis.call('HSET', KEYS[1], 'lock', string.format('%.0f ', now + ARGV[3]) .. ARGV[2])
elseif token == ARGV[2] and ARGV[1] == 'renew' then
  redis.call('HSET', KEYS[1], 'lock', string.format('%.0f ', now + ARGV[3]) .. token)
elseif token == ARGV[2] then
  redis.call('HDEL', KEYS[1], 'lock')
  if ARGV[1] == 'finish' then
    redis.call('DEL', KEYS[2])
    if ARGV[4] ~= '' then
      redis.call('HSET', KEYS[1], 'done ' .. ARGV[4], now)
    end
  end
end
return {'go'}
