-- Acknowledges entries of a stream, and deletes those that no other group still has to work on.
--
-- KEYS[1]  stream
-- ARGV[1]  the group that has done its work
-- ARGV[2]  id of an entry, and so on for all entries
-- Returns how many entries were deleted.

redis.call('XACK', KEYS[1], unpack(ARGV))

local function is_greater(one, other)
  if #one == #other then
    return one > other
  end
  return #one > #other
end

local function is_after(one, other)
  local time, number = string.match(one, '(%d+)-(%d+)')
  local other_time, other_number = string.match(other, '(%d+)-(%d+)')
  if time == other_time then
    return is_greater(number, other_number)
  end
  return is_greater(time, other_time)
end

local others = {}
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
for _, fields in ipairs(groups) do
  local group = {}
  for index = 1, #fields, 2 do
    group[fields[index]] = fields[index + 1]
  end
  if group['name'] ~= ARGV[1] then
    others[#others + 1] = group
  end
end

local function is_needed(id)
  for _, group in ipairs(others) do
    if is_after(id, group['last-delivered-id']) then
      return true
    end
    if #redis.call('XPENDING', KEYS[1], group['name'], id, id, 1) > 0 then
      return true
    end
  end
  return false
end

local deleted = 0
for index = 2, #ARGV do
  if not is_needed(ARGV[index]) then
    deleted = deleted + redis.call('XDEL', KEYS[1], ARGV[index])
  end
end
return deleted
