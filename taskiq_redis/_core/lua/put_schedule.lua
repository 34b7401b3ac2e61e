-- Adds a schedule, or replaces the one with its id, if nobody changed it meanwhile.
--
-- KEYS[1]  string: the bytes of the schedule
-- KEYS[2]  sorted set: the minutes that have schedules
-- KEYS[3]  list: the ids of the kind, or of the minute, that the schedule has now
-- KEYS[4]  list: the same for what it had before; the same key again if there was nothing before
-- ARGV[1]  id of the schedule
-- ARGV[2]  its bytes
-- ARGV[3]  the bytes that it had before, or an empty string
-- ARGV[4]  its minute, or an empty string if it isn't a one-off
-- ARGV[5]  Unix time of that minute
-- ARGV[6]  the minute that it had before, or an empty string
-- Returns 1; or 0, with nothing done, if the bytes aren't what they were.

-- Before anything is changed, so that nothing is done by halves.
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
