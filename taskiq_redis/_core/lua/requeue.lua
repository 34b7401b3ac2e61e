-- Sends dead letters once more: moves them to the end of their queue.
--
-- KEYS[1]  stream: the queue
-- KEYS[2]  stream of dead letters
-- ARGV[1]  how many fields at the end of a dead letter are notes about it
-- ARGV[2]  id of a dead letter, and so on
-- Returns how many there were.

local done = 0
for index = 2, #ARGV do
  local letter = redis.call('XRANGE', KEYS[2], ARGV[index], ARGV[index])[1]
  if letter then
    redis.call('XADD', KEYS[1], '*', unpack(letter[2], 1, #letter[2] - 2 * ARGV[1]))
    redis.call('XDEL', KEYS[2], ARGV[index])
    done = done + 1
  end
end
if redis.call('XLEN', KEYS[2]) == 0 then
  redis.call('DEL', KEYS[2])
end
return done
