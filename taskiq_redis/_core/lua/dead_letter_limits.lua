-- Functions for other scripts: the limits of the dead letters of a queue.

-- Maximum number of dead letters that one step deletes; the next dead letter deletes more.
local STEP = 1000

-- Deletes the oldest dead letters, a bounded number at a time.
--
-- most  maximum number of dead letters, 0 for no limit
-- ttl   ms; time after which a dead letter is deleted, 0 for never
local function limit_dead_letters(key, most, ttl)
  if tonumber(most) > 0 then
    local length = redis.call('XLEN', key)
    redis.call('XTRIM', key, 'MAXLEN', '=', math.max(tonumber(most), length - STEP))
  end
  if tonumber(ttl) > 0 then
    local time = redis.call('TIME')
    local oldest = time[1] * 1000 + math.floor(time[2] / 1000) - ttl
    oldest = string.format('%.0f', math.max(0, oldest))
    -- Whole nodes of the stream; then the rest of one node.
    if redis.call('XTRIM', key, 'MINID', '~', oldest, 'LIMIT', STEP) < STEP then
      redis.call('XTRIM', key, 'MINID', '=', oldest)
    end
  end
end
