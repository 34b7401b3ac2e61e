-- Pauses a queue, unless it is paused.
--
-- KEYS[1]  string: exists while the queue is paused; since when, in ms of Unix time
-- Returns 1, or 0 if the queue was paused before.

if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
local time = redis.call('TIME')
-- Redis refuses SET while its memory is full, unless the script has written before.
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], time[1] * 1000 + math.floor(time[2] / 1000))
return 1
