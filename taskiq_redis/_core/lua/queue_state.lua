-- Functions for other scripts: what the keys beside a queue hold.

-- Returns the time in ms of Unix time; the number of delayed messages; when the first of them is due,
-- in ms of Unix time, or ''; the number of dead letters; and 1 if the queue is paused, else 0.
local function queue_state(delayed, dead, paused)
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local first = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')
  return {
    now,
    redis.call('ZCARD', delayed),
    first[2] or '',
    redis.call('XLEN', dead),
    redis.call('EXISTS', paused),
  }
end
