-- Looks for a text in the next elements of a list.
--
-- KEYS[1]  list
-- ARGV[1]  index of the first element to look at
-- ARGV[2]  number of elements to look at
-- ARGV[3]  the text; further texts to look for follow
-- Returns 1 if it is in one of them, 0 if not, or -1 if not and they were the last ones.

local elements = redis.call('LRANGE', KEYS[1], ARGV[1], ARGV[1] + ARGV[2] - 1)
for _, element in ipairs(elements) do
  for index = 3, #ARGV do
    if string.find(element, ARGV[index], 1, true) then
      return 1
    end
  end
end
return #elements < tonumber(ARGV[2]) and -1 or 0
