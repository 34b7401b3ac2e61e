-- Takes over entries whose worker didn't renew its lease, or that were handed back.
--
-- KEYS[1]   stream
-- KEYS[2]   hash: by worker, its lease in ms and when it was last seen
-- ARGV[1]   group
-- ARGV[2]   consumer that takes them over
-- ARGV[3]   ms; least time since their delivery, or since the lease was renewed
-- ARGV[4]   ms; the same for a consumer that isn't registered, and so can't renew anything
-- ARGV[5]   consumer that holds what was handed back
-- ARGV[6]   ms of Unix time, by this server's clock; later, only what was handed back is taken over
-- ARGV[7]   most entries
-- ARGV[8]   1 if one of them may be a suspect
-- ARGV[9]   how many failed deliveries make a suspect
-- ARGV[10]  how many failed deliveries are so many that the entry isn't run any more; 0 for none
-- ARGV[11]  id where the scan begins
-- ARGV[12]  most entries to look at
-- Returns the id where the next scan begins, or '-' at the end; how many workers are alive; and
-- for each entry its id, how many deliveries of it have failed, who held it, and its fields.

local group, me, handed_back = ARGV[1], ARGV[2], ARGV[5]
local room, may_be_suspect = tonumber(ARGV[7]), ARGV[8] == '1'
local suspicious, too_many = tonumber(ARGV[9]), tonumber(ARGV[10])

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local leases, seen, alive = {}, {}, 0
local registered = redis.call('HGETALL', KEYS[2])
for index = 1, #registered, 2 do
  local name = registered[index]
  local lease, last = string.match(registered[index + 1], '^(%d+) (%d+)$')
  leases[name], seen[name] = tonumber(lease), tonumber(last)
  if lease and now - last < 3 * lease then
    alive = alive + 1
  end
end

-- What was held up on its way must not take an outage for everybody's death; nor may a worker that
-- this server, which may have been a replica so far, hasn't heard of for long.
local too_late = now > tonumber(ARGV[6]) or now > (seen[me] or 0) + ARGV[3] / 2

local function is_due(owner, idle)
  if owner == handed_back then
    return true
  end
  if too_late then
    return false
  end
  return idle >= math.max(tonumber(ARGV[3]), leases[owner] or tonumber(ARGV[4]))
end

-- One that was handed back has been idle for 10,000 s, by what it was told.
local least = math.min(ARGV[3], 10000000)
local scanned = redis.call(
  'XPENDING', KEYS[1], group, 'IDLE', least, ARGV[11], '+', ARGV[12])
local claimed = {}
local next_id = '-'
for index, pending in ipairs(scanned) do
  local id, owner, idle, failed = unpack(pending)
  if #claimed == room then
    break
  end
  next_id = (index < #scanned or #scanned == tonumber(ARGV[12])) and '(' .. id or '-'
  if is_due(owner, idle) then
    if owner ~= handed_back and not leases[owner] then
      failed = 0
    end
    local suspect = failed >= suspicious and (too_many == 0 or failed < too_many)
    if #redis.call('XRANGE', KEYS[1], id, id) == 0 then
      -- It was deleted; not every version of Redis forgets that it is pending.
      redis.call('XACK', KEYS[1], group, id)
    elseif may_be_suspect or not suspect then
      may_be_suspect = may_be_suspect and not suspect
      local entries = redis.call(
        'XCLAIM', KEYS[1], group, me, 0, id, 'RETRYCOUNT', failed + 1)
      claimed[#claimed + 1] = {id, failed, owner, entries[1][2]}
    end
  end
end
return {next_id, alive, claimed}
