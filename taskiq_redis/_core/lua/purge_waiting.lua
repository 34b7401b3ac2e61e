-- Deletes the entries of a stream that wait in one of its groups, and that no worker holds.
--
-- An entry waits in a group that has not received it, or for which it was handed back. In a stream
-- without groups, all entries wait.
--
-- Needs group_progress.lua.
-- Needs task_records.lua.
--
-- KEYS[1]  stream
-- KEYS[2]  sorted set: the records of tasks; left out if they are not tracked
-- ARGV[1]  consumer for which handed-back entries are pending
-- ARGV[2]  '' to look at entries that a group has not received, or the name of a group to look at
--          entries that were handed back for it
-- ARGV[3]  ID after which to look; '' for the beginning
-- ARGV[4]  ID of the last entry to look at; '' for the newest one
-- ARGV[5]  maximum number of entries to look at
-- ARGV[6]  maximum number of bytes to look at, about
-- Returns the number of deleted entries; the ID after which to look next, or '' if nothing is left; and
-- the ID of the last entry to look at, or '' if there is no stream.

if redis.call('EXISTS', KEYS[1]) == 0 then
  return {0, '', ''}
end
local handed_back, group = ARGV[1], ARGV[2]
local limit, max_bytes = tonumber(ARGV[5]), tonumber(ARGV[6])
local groups = other_groups(KEYS[1], nil)

local last = ARGV[4]
if last == '' then
  local fields = redis.call('XINFO', 'STREAM', KEYS[1])
  for index = 1, #fields, 2 do
    if fields[index] == 'last-generated-id' then
      last = fields[index + 1]
    end
  end
end

local function purge(id)
  local waits, back = #groups == 0, {}
  for _, each in ipairs(groups) do
    local pending = redis.call('XPENDING', KEYS[1], each['name'], id, id, 1)[1]
    if not pending then
      waits = waits or is_after(id, each['last-delivered-id'])
    elseif pending[2] == handed_back then
      back[#back + 1] = each['name']
    else
      return 0
    end
  end
  if not waits and #back == 0 then
    return 0
  end
  for _, name in ipairs(back) do
    redis.call('XACK', KEYS[1], name, id)
  end
  if KEYS[2] then
    forget_entry(KEYS[2], id)
  end
  return redis.call('XDEL', KEYS[1], id)
end

local deleted, after = 0, ARGV[3]

if group ~= '' then
  -- Without the group, the reply is an error, and nothing is pending.
  local start = after == '' and '-' or '(' .. after
  local rows = redis.pcall('XPENDING', KEYS[1], group, start, last, limit, handed_back)
  for _, pending in ipairs(rows) do
    after = pending[1]
    deleted = deleted + purge(after)
  end
  return {deleted, #rows == limit and after or '', last}
end

if after == '' then
  for _, each in ipairs(groups) do
    if after == '' or is_after(after, each['last-delivered-id']) then
      after = each['last-delivered-id']
    end
  end
  after = after == '' and '0-0' or after
end
-- Entries may be long, so few are read at first.
local looked, bytes, count = 0, 0, 1
while looked < limit and bytes < max_bytes do
  local entries = {}
  if is_after(last, after) then
    entries = redis.call(
      'XRANGE', KEYS[1], '(' .. after, last, 'COUNT', math.min(count, limit - looked))
  end
  if #entries == 0 then
    return {deleted, '', last}
  end
  local size = 0
  for _, entry in ipairs(entries) do
    after = entry[1]
    for _, word in ipairs(entry[2]) do
      size = size + #word
    end
    deleted = deleted + purge(after)
  end
  looked, bytes = looked + #entries, bytes + size
  count = size < max_bytes / 10 and math.min(2 * count, 64) or 1
end
return {deleted, after, last}
