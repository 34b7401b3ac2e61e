-- Functions for other scripts: the limits of the dead letters of a queue.

-- Maximum number of dead letters that one step deletes; the next dead letter deletes more.
local STEP = 1000

-- Deletes the oldest dead letters, a bounded number at a time: those above the number `most`, and
-- those older than `ttl` ms; 0 is for no limit. Returns whether an ACL allows it. It must not fail,
-- because the caller has written already.
local function limit_dead_letters(key, most, ttl)
  most, ttl = tonumber(most), tonumber(ttl)
  local replies = {}
  if most > 0 then
    local length = redis.pcall('XLEN', key)
    if type(length) == 'number' and length > most then
      replies[1] = redis.pcall('XTRIM', key, 'MAXLEN', '=', math.max(most, length - STEP))
    else
      replies[1] = length
    end
  end
  if ttl > 0 then
    local time = redis.call('TIME')
    local oldest = time[1] * 1000 + math.floor(time[2] / 1000) - ttl
    oldest = string.format('%.0f', math.max(0, oldest))
    -- Whole nodes of the stream; then the rest of one node.
    local reply = redis.pcall('XTRIM', key, 'MINID', '~', oldest, 'LIMIT', STEP)
    if type(reply) == 'number' and reply < STEP then
      reply = redis.pcall('XTRIM', key, 'MINID', '=', oldest)
    end
    replies[#replies + 1] = reply
  end
  for _, reply in ipairs(replies) do
    if type(reply) == 'table' then
      return false
    end
  end
  return true
end
