-- Counts the messages of a queue in a stream, by consumer group, in calls of bounded length.
--
-- Redis' own `lag` of a group is wrong after XDEL, and Redis 6.2 has none. So entries are counted
-- from the beginning of the stream up to the last one that was delivered to the group, and at the
-- same time from the end of the stream down to it; the shorter count decides. Pending entries are
-- looked up one by one, as deleted ones stay pending.
--
-- Needs queue_state.lua.
--
-- KEYS[1]  stream: the queue
-- KEYS[2]  sorted set: its delayed messages
-- KEYS[3]  stream: its dead letters
-- KEYS[4]  exists while the queue is paused
-- KEYS[5]  hash: the workers of the first group, see renew.lua; those of the other groups follow
-- ARGV[1]  consumer for which handed-back entries are pending
-- ARGV[2]  maximum number of entries to visit
-- ARGV[3]  bytes; no further entries are visited after so many
-- ARGV[4]  name of the first group; three cursors: the ID up to which entries were counted from the
--          beginning, the end of the range that is left to count from the end, or '', and the ID up
--          to which pending ones were looked up; the same of further groups follow
-- Returns what queue_state.lua returns; the length of the stream; its first ID or ''; 1 if all is
-- counted, else 0; and for each group its name; the ID of the first entry that was not delivered, or
-- ''; three cursors for the next call; 1 if all are counted from the beginning, else 0; the number of
-- entries that this call has counted from the beginning, and from the end; the ID of the first
-- handed-back entry that it has found, or ''; the consumers of the pending entries that it has found,
-- with their numbers; and, if all is counted, the names of all consumers, and the hash of workers.

local LARGEST_ID = '18446744073709551615-18446744073709551615'
-- Entries per command: few at first, as they may be long.
local MIN_STEP, MAX_STEP = 8, 128

local handed_back = ARGV[1]
local entries_left, bytes_left = tonumber(ARGV[2]), tonumber(ARGV[3])
local step = MIN_STEP

local function may_visit()
  return entries_left > 0 and bytes_left > 0
end

local function visit(entries)
  for _, entry in ipairs(entries) do
    entries_left = entries_left - 1
    for _, word in ipairs(entry[2]) do
      bytes_left = bytes_left - #word
    end
  end
end

-- Counts the next entries of a range. Returns their number, the ID of the last one, and whether that
-- is the last one of the range.
local function count(command, from, to)
  if from == '(' .. LARGEST_ID or to == '(' .. LARGEST_ID then
    return 0, nil, true
  end
  local wanted, before = math.min(step, entries_left), bytes_left
  local entries = redis.call(command, KEYS[1], from, to, 'COUNT', wanted)
  visit(entries)
  -- No more than fit into the rest of the bytes, if the next ones have the same size.
  local size = math.max(1, (before - bytes_left) / math.max(1, #entries))
  step = math.max(1, math.min(2 * step, MAX_STEP, math.floor(bytes_left / size)))
  return #entries, #entries > 0 and entries[#entries][1] or nil, #entries < wanted
end

-- Counts the entries up to the last delivered one and those after it, until one side ends.
local function count_sides(group, last)
  while not group.reached and group.high ~= '' and may_visit() do
    local number, id, is_end = count('XRANGE', '(' .. group.low, last)
    group.delivered = group.delivered + number
    group.low, group.reached = id or group.low, is_end
    if not is_end and may_visit() then
      number, id, is_end = count('XREVRANGE', group.high, '(' .. last)
      group.undelivered = group.undelivered + number
      group.high = is_end and '' or '(' .. id
    end
  end
end

-- Counts the pending entries that still exist, by consumer.
local function count_pending(group)
  local counts = {}
  while not group.looked_up and may_visit() do
    local wanted, rows = math.min(MAX_STEP, entries_left), {}
    if group.pending ~= LARGEST_ID then
      rows = redis.call('XPENDING', KEYS[1], group.name, '(' .. group.pending, '+', wanted)
    end
    group.looked_up = #rows < wanted
    for _, row in ipairs(rows) do
      if not may_visit() then
        group.looked_up = false
        break
      end
      local id, owner = row[1], row[2]
      local found = redis.call('XRANGE', KEYS[1], id, id)
      visit(#found > 0 and found or {{id, {}}})
      if #found > 0 then
        counts[owner] = (counts[owner] or 0) + 1
        if owner == handed_back and group.first_back == '' then
          group.first_back = id
        end
      end
      group.pending = id
    end
  end
  for owner, number in pairs(counts) do
    group.owners[#group.owners + 1] = {owner, number}
  end
end

local function as_table(fields)
  local values = {}
  for index = 1, #fields, 2 do
    values[fields[index]] = fields[index + 1]
  end
  return values
end

local state = queue_state(KEYS[2], KEYS[3], KEYS[4])
local length = redis.call('XLEN', KEYS[1])
local cursors, workers, keys = {}, {}, {unpack(KEYS, 5)}
for index = 4, #ARGV, 4 do
  cursors[ARGV[index]] = {unpack(ARGV, index + 1, index + 3)}
  workers[ARGV[index]] = keys[index / 4]
end

local groups, all_counted = {}, true
local found = redis.call('EXISTS', KEYS[1]) == 1 and redis.call('XINFO', 'GROUPS', KEYS[1]) or {}
for index, fields in ipairs(found) do
  local info = as_table(fields)
  local group, last = {name = info['name'], first_back = '', owners = {}}, info['last-delivered-id']
  group.low, group.high, group.pending = unpack(cursors[group.name] or {'0-0', '+', '0-0'})
  group.delivered, group.undelivered, group.reached, group.looked_up = 0, 0, false, false
  if cursors[group.name] then
    count_pending(group)
    count_sides(group, last)
  end
  if not group.looked_up or not group.reached and group.high ~= '' then
    all_counted = false
  end
  if last ~= LARGEST_ID then
    group.first = redis.call('XRANGE', KEYS[1], '(' .. last, '+', 'COUNT', 1)[1]
  end
  groups[index] = group
end

local reply = {}
for index, group in ipairs(groups) do
  reply[index] = {
    group.name, group.first and group.first[1] or '', group.low, group.high, group.pending,
    group.reached and 1 or 0, group.delivered, group.undelivered, group.first_back, group.owners,
  }
  if all_counted then
    local names = {}
    for number, fields in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], group.name)) do
      names[number] = as_table(fields)['name']
    end
    reply[index][11], reply[index][12] = names, redis.call('HGETALL', workers[group.name])
  end
end
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
return {state, length, first and first[1] or '', all_counted and 1 or 0, reply}
