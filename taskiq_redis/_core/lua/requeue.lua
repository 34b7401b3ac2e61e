-- Sends dead letters once more: moves them to the end of their queue.
--
-- KEYS[1]  stream: the queue
-- KEYS[2]  stream of dead letters
-- ARGV[1]  names of the fields at the end of a dead letter that are notes about it, with spaces
-- ARGV[2]  id of a dead letter, and so on
-- Returns how many there were.

local notes = {}
for name in string.gmatch(ARGV[1], '%S+') do
  notes[name] = true
end

local done = 0
for index = 2, #ARGV do
  local letter = redis.call('XRANGE', KEYS[2], ARGV[index], ARGV[index])[1]
  local last = letter and #letter[2] or 0
  while last > 0 and notes[letter[2][last - 1]] do
    last = last - 2
  end
  -- One that somebody else has put there, with notes only, is left where it is.
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
