-- Hands entries back: moves them to a consumer from which any worker can claim them at once.
--
-- KEYS[1]  stream
-- ARGV[1]  group
-- ARGV[2]  consumer that hands them back; entries that are not pending for it are ignored
-- ARGV[3]  consumer for which handed-back entries are pending
-- ARGV[4]  1 to count the delivery as failed, 0 not to count it
-- ARGV[5]  ms; the idle time that the entries have then
-- ARGV[6]  ID of an entry; further IDs follow
-- Returns the number of entries that were handed back.

local done = 0
for index = 6, #ARGV do
  local id = ARGV[index]
  -- Without the stream or the group, the reply is an error, and nothing is pending.
  local entry = redis.pcall('XPENDING', KEYS[1], ARGV[1], id, id, 1)[1]
  if entry and entry[2] == ARGV[2] then
    local failed = math.max(0, entry[4] - 1 + ARGV[4])
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[3], 0, id,
      'IDLE', ARGV[5], 'RETRYCOUNT', failed, 'JUSTID')
    done = done + 1
  end
end
return done
