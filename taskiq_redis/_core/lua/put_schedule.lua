-- Adds a schedule, or replaces the one with its ID, if that has not changed since it was read.
--
-- KEYS[1]  string: the bytes of the schedule
-- KEYS[2]  sorted set: the minutes that have one-off schedules
-- KEYS[3]  list: the IDs of the schedule's kind, or of its minute
-- KEYS[4]  list: the same for the former schedule; KEYS[3] if there is none
-- ARGV[1]  ID of the schedule
-- ARGV[2]  its bytes
-- ARGV[3]  bytes of the former schedule, as they were read; '' if there is none
-- ARGV[4]  minute of the schedule, or '' if it isn't a one-off
-- ARGV[5]  Unix time of that minute in s
-- ARGV[6]  minute of the former schedule, or ''
-- Returns 1; or 0, with nothing done, if the bytes have changed.

-- Before the first change, so that an error leaves nothing half done.
local kinds = {'string', 'zset'}
for index, key in ipairs(KEYS) do
  local kind, found = kinds[index] or 'list', redis.call('TYPE', key).ok
  if found ~= kind and found ~= 'none' then
    return redis.error_reply('WRONGTYPE ' .. key .. ' is a ' .. found .. ', not a ' .. kind)
  end
end
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[3] then
  return 0
end
redis.call('LREM', KEYS[4], 0, ARGV[1])
if ARGV[6] ~= '' and redis.call('EXISTS', KEYS[4]) == 0 then
  redis.call('ZREM', KEYS[2], ARGV[6])
end
redis.call('SET', KEYS[1], ARGV[2])
redis.call('LREM', KEYS[3], 0, ARGV[1])
redis.call('RPUSH', KEYS[3], ARGV[1])
if ARGV[4] ~= '' then
  redis.call('ZADD', KEYS[2], ARGV[5], ARGV[4])
end
return 1
