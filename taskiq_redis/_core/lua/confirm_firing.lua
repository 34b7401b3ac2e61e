-- Ends the claim of a schedule that was sent: deletes a one-off, or records when the others fired.
--
-- Needs schedule_index.lua.
--
-- KEYS[1]  the first of the six keys of schedule_index.lua
-- KEYS[7]  string: the bytes of the schedule; missing for a source without an index
-- ARGV[1]  ID of the schedule
-- ARGV[2]  token of the claim
-- ARGV[3]  time of the firing in ms; '' for a one-off
-- ARGV[4]  SHA-1 digest of the bytes that were sent, in hex
-- Returns nothing.

local id = ARGV[1]
if holder_of(id, 0) == ARGV[2] then
  redis.call('HDEL', claims, id)
end
local bytes = KEYS[7] and redis.call('GET', KEYS[7])
if ARGV[3] ~= '' then
  -- A scheduler that was paused may confirm an older firing than the last one.
  local last = tonumber(redis.call('HGET', fired, id) or '') or 0
  local newer = last > tonumber(ARGV[3]) and last <= now_ms()
  if (bytes or not KEYS[7]) and not newer then
    redis.call('HSET', fired, id, ARGV[3])
  end
elseif bytes and redis.sha1hex(bytes) == ARGV[4] then
  redis.call('DEL', KEYS[7])
  redis.call('ZREM', due, id)
  -- It may have been a cron before. A key of another type doesn't matter.
  redis.pcall('HDEL', fired, id)
  record_changes({id})
end
