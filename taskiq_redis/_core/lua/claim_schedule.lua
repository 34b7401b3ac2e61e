-- Decides whether a scheduler may send a schedule now, and if so, claims it.
--
-- Needs schedule_index.lua.
--
-- KEYS[1]  the first of the six keys of schedule_index.lua
-- KEYS[7]  string: the bytes of the schedule; missing for a source without an index
-- ARGV[1]  ID of the schedule
-- ARGV[2]  token of this claim
-- ARGV[3]  ms; duration of the lease
-- ARGV[4]  cron, interval or once
-- ARGV[5]  cron: start of the minute in ms; interval: its length in ms
-- ARGV[6]  score that the schedule must have in `due`; '' if it must have none
-- ARGV[7]  ms; how much an interval may be too early
-- Returns {'go', bytes, time in ms}, {'gone'}, {'busy', ms until the lease ends} or {'early', ms}.

local id, token = ARGV[1], ARGV[2]
local bytes = ''
if KEYS[7] then
  bytes = redis.call('GET', KEYS[7])
end
local score = redis.call('ZSCORE', due, id) or ''
if not bytes or score ~= ARGV[6] and (score == '' or tonumber(score) ~= tonumber(ARGV[6])) then
  return {'gone'}
end
local now = now_ms()
local holder, rest = holder_of(id, now)
-- Ignore longer leases: no scheduler writes them, or the clock was set back.
if holder and holder ~= token and rest > 0 and rest <= 3600000 then
  return {'busy', rest}
end
local last = ARGV[4] ~= 'once' and tonumber(redis.call('HGET', fired, id) or '') or 0
if last > now + 3600000 then
  last = 0  -- The clock was set back.
end
local mark = tonumber(ARGV[5])
if ARGV[4] == 'cron' and last >= mark then
  return {'gone'}
end
if ARGV[4] == 'interval' and last + mark - now > tonumber(ARGV[7]) and last <= now then
  return {'early', last + mark - now}
end
hold(id, token, now, ARGV[3])
return {'go', bytes, now}
