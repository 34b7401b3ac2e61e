-- Deletes a list or a sorted set; Redis frees its memory in the background.
--
-- KEYS[1]  list or sorted set
-- ARGV[1]  command that returns the number of its elements: LLEN or ZCARD
-- Returns the number of its elements.

local number = redis.call(ARGV[1], KEYS[1])
if number > 0 then
  redis.call('UNLINK', KEYS[1])
end
return number
