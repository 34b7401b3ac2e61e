-- Reads several lists at once.
--
-- KEYS     the lists
-- Returns an array of elements per list; nil for a key of another type.

local lists = {}
for index, key in ipairs(KEYS) do
  local elements = redis.pcall('LRANGE', key, 0, -1)
  lists[index] = not elements.err and elements
end
return lists
