-- Deletes a schedule, if it has not changed since it was read.
--
-- KEYS[1]  string: the bytes of the schedule
-- KEYS[2]  sorted set: the minutes that have one-off schedules
-- KEYS[3]  list: the IDs of its kind, or of its minute; further lists may follow
-- ARGV[1]  ID of the schedule
-- ARGV[2]  its bytes, as they were read
-- ARGV[3]  its minute, or '' if it isn't a one-off
-- Returns 1; or 0, with nothing done, if the bytes have changed.

-- Before the first change, so that an error leaves nothing half done.
local kinds = {'string', 'zset'}
for index, key in ipairs(KEYS) do
  local kind, found = kinds[index] or 'list', redis.call('TYPE', key).ok
  if found ~= kind and found ~= 'none' then
    return redis.error_reply('WRONGTYPE ' .. key .. ' is a ' .. found .. ', not a ' .. kind)
  end
end
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[2] then
  return 0
end
redis.call('DEL', KEYS[1])
for list = 3, #KEYS do
  redis.call('LREM', KEYS[list], 0, ARGV[1])
end
if ARGV[3] ~= '' and redis.call('EXISTS', KEYS[3]) == 0 then
  redis.call('ZREM', KEYS[2], ARGV[3])
end
return 1
