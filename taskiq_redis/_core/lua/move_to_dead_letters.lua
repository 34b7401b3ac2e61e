-- Moves an entry of a stream to the dead letters, if it is still pending for the consumer.
--
-- Needs group_progress.lua.
-- Needs dead_letter_limits.lua.
-- Needs task_records.lua.
--
-- KEYS[1]  stream
-- KEYS[2]  stream of dead letters
-- KEYS[3]  sorted set: the records of tasks; left out if they are not tracked
-- ARGV[1]  group
-- ARGV[2]  consumer that the entry is pending for
-- ARGV[3]  ID of the entry
-- ARGV[4]  1 to delete the entry from its stream, 0 to keep it
-- ARGV[5]  maximum number of dead letters, 0 for no limit
-- ARGV[6]  ms; time after which a dead letter is deleted, 0 for never
-- ARGV[7]  name of a field to add, its value, and so on
-- Returns 1; 2 if an ACL forbids the limits; 0 if nothing was done; or -1 if the entry was deleted, and
-- so was only acknowledged.

-- Names and values that are kept of an entry; unpack fails with more than about 8000.
local MAX_WORDS = 7000

local pending = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1, ARGV[2])
if #pending == 0 then
  return 0
end
local done = -1
local entry = redis.call('XRANGE', KEYS[1], ARGV[3], ARGV[3])[1]
if entry then
  local fields = entry[2]
  local letter = {'XADD', KEYS[2], '*', unpack(fields, 1, math.min(#fields, MAX_WORDS))}
  for index = MAX_WORDS + 1, #fields, 2 do
    if fields[index] == 'data' then
      -- The message; the other fields are of no use for taskiq.
      letter[#letter + 1], letter[#letter + 2] = fields[index], fields[index + 1]
      break
    end
  end
  for index = 7, #ARGV do
    letter[#letter + 1] = ARGV[index]
  end
  redis.call(unpack(letter))
  if KEYS[3] then
    record_death(KEYS[3], ARGV, 7)
  end
  done = limit_dead_letters(KEYS[2], ARGV[5], ARGV[6]) and 1 or 2
end
redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])
if ARGV[4] ~= '0' and not is_needed(KEYS[1], other_groups(KEYS[1], ARGV[1]), ARGV[3]) then
  redis.call('XDEL', KEYS[1], ARGV[3])
end
return done
