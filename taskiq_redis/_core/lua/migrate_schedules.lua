-- Adds schedules of another source, unless this migration has added them before.
--
-- Needs schedule_index.lua.
-- Needs schedule_put.lua.
--
-- KEYS[1]  the first of the six keys of schedule_index.lua
-- KEYS[7]  hash: see lock_migration.lua
-- KEYS[8]  set: the IDs that migrations of the same source have added since the last one finished
-- KEYS[9]  the first pair of keys, see schedule_put.lua
-- ARGV[1]  token of the lock
-- ARGV[2]  ms; duration of its lease, which is renewed
-- ARGV[3]  number of IDs that follow, of schedules that are paused
-- Then the first group of arguments.
-- Returns 1; or 0, with nothing done, if another process has the lock.

local failure = check_keys(9)
if failure then
  return failure
end
local _, token = string.match(redis.call('HGET', KEYS[7], 'lock') or '', '^(%d+) (.*)$')
if token ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[7], 'lock', string.format('%.0f ', now_ms() + ARGV[2]) .. token)
local paused = {}
for place = 4, 3 + ARGV[3] do
  paused[ARGV[place]] = true
end
local ids = {}
for index = 9, #KEYS, 2 do
  local place = 2 * index - 14 + ARGV[3]
  if redis.call('SADD', KEYS[8], ARGV[place]) == 1 then
    put(KEYS[index], KEYS[index + 1], unpack(ARGV, place, place + 3))
    if paused[ARGV[place]] then
      redis.call('ZADD', due, 'inf', ARGV[place])
    end
    ids[#ids + 1] = ARGV[place]
  end
end
record_changes(ids)
return 1
