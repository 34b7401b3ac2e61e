-- Moves dead letters back to the end of their queue.
--
-- KEYS[1]  stream: the queue
-- KEYS[2]  stream of dead letters
-- ARGV[1]  names, with spaces, of the fields that a dead letter has after those of its message
-- ARGV[2]  ID of a dead letter; further IDs follow
-- Returns the number of dead letters that were moved.

local added = {}
for name in string.gmatch(ARGV[1], '%S+') do
  added[name] = true
end

local done = 0
for index = 2, #ARGV do
  local letter = redis.call('XRANGE', KEYS[2], ARGV[index], ARGV[index])[1]
  local last = letter and #letter[2] or 0
  while last > 0 and added[letter[2][last - 1]] do
    last = last - 2
  end
  -- An entry of another program, without the fields of a message, is kept.
  if last > 0 then
    redis.call('XADD', KEYS[1], '*', unpack(letter[2], 1, last))
    redis.call('XDEL', KEYS[2], ARGV[index])
    done = done + 1
  end
end
if redis.call('XLEN', KEYS[2]) == 0 then
  redis.call('DEL', KEYS[2])
end
return done
