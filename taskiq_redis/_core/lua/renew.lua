-- Renews the leases of a worker: it shows that it lives, and what it still holds counts as new.
--
-- Nothing is taken from another worker, and no delivery is counted.
--
-- KEYS[1]  stream
-- KEYS[2]  hash: by worker, its lease in ms and when it was last seen, in ms of Unix time
-- ARGV[1]  group
-- ARGV[2]  the worker's name as a consumer
-- ARGV[3]  ms; for how long it may hold an entry without renewing it
-- ARGV[4]  ms; how long the hash is kept when all workers are gone
-- ARGV[5]  id of an entry, and so on for all entries
-- Returns the time in ms of Unix time; when the worker was seen before, or 0; and for each entry that
-- it doesn't hold any more, its id, and who holds it or ''.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local before = redis.call('HGET', KEYS[2], ARGV[2])
local seen = before and tonumber(string.match(before, '%d+$')) or 0
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3] .. ' ' .. now)
redis.call('PEXPIRE', KEYS[2], ARGV[4])

local lost = {}
for index = 5, #ARGV do
  local id = ARGV[index]
  -- Without the stream, or the group, it is an error: then nobody holds anything.
  local entry = redis.pcall('XPENDING', KEYS[1], ARGV[1], id, id, 1)[1]
  if not entry then
    lost[#lost + 1] = {id, ''}
  elseif entry[2] ~= ARGV[2] then
    lost[#lost + 1] = {id, entry[2]}
  else
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, 'JUSTID')
  end
end
return {now, seen, lost}
