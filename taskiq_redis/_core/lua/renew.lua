-- Renews the leases of a worker: resets the idle time of its entries, and updates its registration.
--
-- It claims no entry from another worker, and doesn't count as a delivery.
--
-- Needs task_records.lua.
--
-- KEYS[1]  stream
-- KEYS[2]  hash: by worker, its lease in ms; when it last renewed it and when it began to listen, in ms
--          of Unix time; the ID of its process; its version; its host. With spaces between them
-- KEYS[3]  sorted set: the records of tasks; left out if they are not tracked
-- ARGV[1]  group
-- ARGV[2]  the worker's consumer name
-- ARGV[3]  ms; duration of its leases
-- ARGV[4]  ms; TTL of the hash, for when no worker renews it
-- ARGV[5]  1 to renew the leases of the entries, 0 only to look up their owners
-- ARGV[6]  ms of Unix time by this server's clock; when it began to listen, 0 for now
-- ARGV[7]  the ID of its process, its version and its host
-- ARGV[8]  ID of an entry; further IDs follow
-- Returns the time in ms of Unix time; the time of the worker's previous renewal, or 0; and for each
-- entry that is not pending for the worker any more, its ID and its owner or ''.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- An error, such as WRONGTYPE, is returned when the leases are renewed.
local before = redis.pcall('HGET', KEYS[2], ARGV[2])

local lost = {}
for index = 8, #ARGV do
  local id = ARGV[index]
  -- Without the stream or the group, the reply is an error, and nothing is pending.
  local entry = redis.pcall('XPENDING', KEYS[1], ARGV[1], id, id, 1)[1]
  if not entry then
    lost[#lost + 1] = {id, ''}
  elseif entry[2] ~= ARGV[2] then
    lost[#lost + 1] = {id, entry[2]}
  elseif ARGV[5] == '1' then
    if KEYS[3] then
      record_beginning(KEYS[3], now, entry)
    end
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, 'JUSTID')
  end
end

if type(before) == 'table' then
  return before
end
local seen = before and tonumber(string.match(before .. ' ', '^%d+ (%d+) ')) or 0
local started = ARGV[6] == '0' and now or ARGV[6]
-- Redis refuses HSET while its memory is full, unless the script has written before. So the leases
-- are renewed first, and PEXPIRE comes before HSET; after it, only a new hash needs a TTL.
local registered = redis.call('PEXPIRE', KEYS[2], ARGV[4]) == 1
redis.call('HSET', KEYS[2], ARGV[2], table.concat({ARGV[3], now, started, ARGV[7]}, ' '))
if not registered then
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
end
return {now, seen, lost}
