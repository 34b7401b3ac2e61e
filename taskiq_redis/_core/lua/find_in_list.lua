-- Looks for a text in the next elements of a list.
--
-- KEYS[1]  list
-- ARGV[1]  index of the first element to look at
-- ARGV[2]  maximum number of elements to look at
-- ARGV[3]  maximum number of bytes to look at, about
-- ARGV[4]  the text; further texts to look for follow
-- Returns the index of the next element to look at, -1 after the last one; and the elements that
-- contain one of the texts.

local first, limit, bytes = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local found, looked = {}, 0
-- Elements may be long, so few are read at first.
local count = 1
while looked < limit and bytes > 0 do
  local start, before = first + looked, bytes
  local wanted = math.min(count, limit - looked)
  local elements = redis.call('LRANGE', KEYS[1], start, start + wanted - 1)
  for _, element in ipairs(elements) do
    bytes = bytes - #element
    for index = 4, #ARGV do
      if string.find(element, ARGV[index], 1, true) then
        found[#found + 1] = element
        break
      end
    end
  end
  looked = looked + #elements
  if #elements < wanted then
    return {-1, found}
  end
  count = before - bytes < ARGV[3] / 10 and math.min(2 * count, 64) or 1
end
return {first + looked, found}
