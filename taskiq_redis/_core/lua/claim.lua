-- Claims entries whose lease has expired, or that were handed back.
--
-- KEYS[1]   stream
-- KEYS[2]   hash: the workers; see renew.lua
-- ARGV[1]   group
-- ARGV[2]   consumer that claims
-- ARGV[3]   ms; minimum time since the delivery, or since the lease was renewed
-- ARGV[4]   ms; minimum time since the delivery for a consumer that isn't registered
-- ARGV[5]   consumer for which handed-back entries are pending
-- ARGV[6]   ms of Unix time by this server's clock; after it, only handed-back entries are claimed
-- ARGV[7]   maximum number of entries to claim
-- ARGV[8]   1 if one of them may be a suspect
-- ARGV[9]   number of failed deliveries that makes an entry a suspect
-- ARGV[10]  number of failed deliveries that makes an entry a dead letter; 0 for none
-- ARGV[11]  ID where the scan begins
-- ARGV[12]  maximum number of entries to scan
-- ARGV[13]  ms; minimum idle time of handed-back entries
-- ARGV[14]  ms; their minimum idle time if a worker has refused them, since it doesn't know the task
-- ARGV[15]  maximum number of refused entries to claim
-- ARGV[16]  ID after which refused entries are claimed
-- Returns the ID where the next scan begins, or '-' after the last entry; the number of workers that
-- are alive; and for each claimed entry its ID, its number of failed deliveries, its former owner, its
-- fields, and for how many ms it has been refused; -1 if it hasn't.

local group, me, handed_back = ARGV[1], ARGV[2], ARGV[5]
local limit, may_be_suspect = tonumber(ARGV[7]), ARGV[8] == '1'
local suspect_after, dead_after = tonumber(ARGV[9]), tonumber(ARGV[10])

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local leases, seen, alive = {}, {}, 0
local registered = redis.call('HGETALL', KEYS[2])
for index = 1, #registered, 2 do
  local name = registered[index]
  local lease, last = string.match(registered[index + 1] .. ' ', '^(%d+) (%d+) ')
  leases[name], seen[name] = tonumber(lease), tonumber(last)
  if lease and now - last < 3 * lease then
    alive = alive + 1
  end
end

-- After an outage, leases of live workers seem to have expired until they renew them. So nothing is
-- claimed from other workers if this call was delayed, or if this server, as a replica, has missed
-- renewals.
local too_late = now > tonumber(ARGV[6]) or now > (seen[me] or 0) + ARGV[3] / 2

local function is_after(id, other)
  local time1, number1 = string.match(id, '^(%d+)-(%d+)$')
  local time2, number2 = string.match(other, '^(%d+)-(%d+)$')
  if time1 == time2 then
    return tonumber(number1) > tonumber(number2)
  end
  return tonumber(time1) > tonumber(time2)
end

local refused_idle, refused_limit = tonumber(ARGV[14]), tonumber(ARGV[15])

local function is_due(id, owner, idle)
  if owner == handed_back then
    return idle < refused_idle or (refused_limit > 0 and is_after(id, ARGV[16]))
  end
  if too_late then
    return false
  end
  return idle >= math.max(tonumber(ARGV[3]), leases[owner] or tonumber(ARGV[4]))
end

local min_idle = math.min(ARGV[3], ARGV[13])
local scanned = redis.call(
  'XPENDING', KEYS[1], group, 'IDLE', min_idle, ARGV[11], '+', ARGV[12])
local claimed = {}
local next_id = '-'
for index, pending in ipairs(scanned) do
  local id, owner, idle, failed = unpack(pending)
  if #claimed == limit then
    break
  end
  next_id = (index < #scanned or #scanned == tonumber(ARGV[12])) and '(' .. id or '-'
  if is_due(id, owner, idle) then
    if owner ~= handed_back and not leases[owner] then
      failed = 0
    end
    local suspect = failed >= suspect_after and (dead_after == 0 or failed < dead_after)
    if #redis.call('XRANGE', KEYS[1], id, id) == 0 then
      -- A deleted entry stays pending in some versions of Redis.
      redis.call('XACK', KEYS[1], group, id)
    elseif may_be_suspect or not suspect then
      may_be_suspect = may_be_suspect and not suspect
      local entries = redis.call(
        'XCLAIM', KEYS[1], group, me, 0, id, 'RETRYCOUNT', failed + 1)
      local refused = -1
      if owner == handed_back and idle >= refused_idle then
        refused, refused_limit = idle - refused_idle, refused_limit - 1
      end
      claimed[#claimed + 1] = {id, failed, owner, entries[1][2], refused}
    end
  end
end
return {next_id, alive, claimed}
