-- Hands entries back, so that any worker may take them over at once.
--
-- KEYS[1]  stream
-- ARGV[1]  group
-- ARGV[2]  consumer that holds them; what it doesn't hold any more is left alone
-- ARGV[3]  consumer that gets them
-- ARGV[4]  1 if the delivery has failed; 0 if it doesn't count
-- ARGV[5]  id of an entry, and so on for all entries
-- Returns how many were handed back.

local done = 0
for index = 5, #ARGV do
  local id = ARGV[index]
  -- Without the stream, or the group, it is an error: then nobody holds anything.
  local entry = redis.pcall('XPENDING', KEYS[1], ARGV[1], id, id, 1)[1]
  if entry and entry[2] == ARGV[2] then
    local failed = math.max(0, entry[4] - 1 + ARGV[4])
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[3], 0, id,
      'IDLE', 10000000, 'RETRYCOUNT', failed, 'JUSTID')
    done = done + 1
  end
end
return done
