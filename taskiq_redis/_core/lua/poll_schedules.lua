-- Finds the schedules that are due soon, and what changed since the last poll.
--
-- Needs schedule_index.lua.
-- Needs scheduler_registration.lua.
--
-- KEYS[1]  the first of the six keys of schedule_index.lua
-- KEYS[7]  list of the crons of 1.2.4, whose new IDs are added to the index
-- KEYS[8]  list of its intervals
-- KEYS[9]  list of a minute; further ones follow, and if a scheduler is to be registered, the hash of
--          the schedulers
-- ARGV[1]  version at the last poll, or ''
-- ARGV[2]  ms; lowest due time of one-offs
-- ARGV[3]  ms; highest due time
-- ARGV[4]  ms; minutes that started before are over
-- ARGV[5]  name of the scheduler to register, or '' for none
-- ARGV[6]  ms; interval in which it registers
-- ARGV[7]  ms; time since it started
-- ARGV[8]  its process ID, version and host
-- ARGV[9]  score of the IDs of the first list; its minute or '', and further pairs follow
-- Returns eight values:
--   1. the version
--   2. 1 if everything has to be read again, else 0
--   3. IDs and scores: of all crons and intervals, or of what changed; the score is '' without one
--   4. IDs and scores of the one-offs in the range
--   5. the keys that aren't lists
--   6. minutes whose lists can be deleted when their schedules were sent
--   7. 1 if most of the IDs in the lists of crons and intervals are of no use, else 0
--   8. why the scheduler isn't registered, or ''

local failure = wrong_type(due, 'zset') or wrong_type(meta, 'hash') or wrong_type(changes, 'list')
  or wrong_type(minutes, 'zset')
if failure then
  return failure
end
local no_lists, grown = {}, false
local registers = ARGV[5] ~= ''
for index = 7, registers and #KEYS - 1 or #KEYS do
  local list, place = KEYS[index], 9 + 2 * (index - 7)
  if wrong_type(list, 'list') then
    no_lists[#no_lists + 1] = list
  else
    grown = index_list(list, ARGV[place], ARGV[place + 1]) or grown
  end
end
if grown then
  forget_changes()
end

local version = redis.call('HGET', meta, 'version') or ''
local behind = (tonumber(version) or 0) - (tonumber(ARGV[1]) or 0)
-- Numbers that another program has written may be nan, fractions, or too large to be exact.
local plausible = behind >= 0 and behind % 1 == 0 and (behind > 0 or version == ARGV[1])
local all = version == '' or ARGV[1] == '' or not plausible or behind > redis.call('LLEN', changes)
local read = {}
if all then
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', due, 0, 0)) do
    read[#read + 1] = id
    read[#read + 1] = '0'
  end
elseif behind > 0 then
  for _, id in ipairs(redis.call('LRANGE', changes, 0, behind - 1)) do
    read[#read + 1] = id
    read[#read + 1] = redis.call('ZSCORE', due, id) or ''
  end
end

local listed = 0
for index = 7, 8 do
  if not wrong_type(KEYS[index], 'list') then
    listed = listed + redis.call('LLEN', KEYS[index])
  end
end
local recurring, any = redis.call('ZCOUNT', due, 0, 0), redis.call('ZCARD', due) > 0
return {
  version,
  all and 1 or 0,
  read,
  redis.call('ZRANGEBYSCORE', due, ARGV[2], ARGV[3], 'WITHSCORES'),
  no_lists,
  -- The latest ones first: those that are still used must not keep others from being deleted.
  redis.call('ZREVRANGEBYSCORE', minutes, any and ARGV[4] or '+inf', '-inf', 'LIMIT', 0, 500),
  listed > 2 * recurring + (any and 64 or 0) and 1 or 0,
  registers and register_scheduler(KEYS[#KEYS], ARGV[5], ARGV[6], ARGV[7], ARGV[8]) or '',
}
