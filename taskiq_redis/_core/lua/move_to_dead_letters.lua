-- Moves an entry of a stream to the dead letters, if it is still pending for the consumer.
--
-- Needs group_progress.lua.
--
-- KEYS[1]  stream
-- KEYS[2]  stream of dead letters
-- ARGV[1]  group
-- ARGV[2]  consumer that the entry is pending for
-- ARGV[3]  ID of the entry
-- ARGV[4]  1 to delete the entry from its stream, 0 to keep it
-- ARGV[5]  name of a field to add, its value, and so on
-- Returns 1, or 0 if nothing was done.

local pending = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1, ARGV[2])
if #pending == 0 then
  return 0
end
local entry = redis.call('XRANGE', KEYS[1], ARGV[3], ARGV[3])[1]
if entry then
  local letter = {'XADD', KEYS[2], '*', unpack(entry[2])}
  for index = 5, #ARGV do
    letter[#letter + 1] = ARGV[index]
  end
  redis.call(unpack(letter))
end
redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])
if ARGV[4] ~= '0' and not is_needed(KEYS[1], other_groups(KEYS[1], ARGV[1]), ARGV[3]) then
  redis.call('XDEL', KEYS[1], ARGV[3])
end
return 1
