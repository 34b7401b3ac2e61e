-- Functions for other scripts: whether other groups of a stream still need an entry.

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

-- Returns the groups of a stream except one.
local function other_groups(stream, own)
  local others = {}
  for _, fields in ipairs(redis.pcall('XINFO', 'GROUPS', stream)) do
    local group = {}
    for index = 1, #fields, 2 do
      group[fields[index]] = fields[index + 1]
    end
    if group['name'] ~= own then
      others[#others + 1] = group
    end
  end
  return others
end

-- Returns whether one of the groups has not received or not acknowledged an entry.
local function is_needed(stream, groups, id)
  for _, group in ipairs(groups) do
    if is_after(id, group['last-delivered-id']) then
      return true
    end
    if #redis.call('XPENDING', stream, group['name'], id, id, 1) > 0 then
      return true
    end
  end
  return false
end
