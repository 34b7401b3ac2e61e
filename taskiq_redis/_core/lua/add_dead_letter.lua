-- Adds a message to the dead letters, unless an earlier try has added it.
--
-- Needs dead_letter_limits.lua.
-- Needs task_records.lua.
--
-- KEYS[1]  stream of dead letters
-- KEYS[2]  sorted set: the records of tasks; left out if they are not tracked
-- ARGV[1]  maximum number of dead letters, 0 for no limit
-- ARGV[2]  ms; time after which a dead letter is deleted, 0 for never
-- ARGV[3]  1 if an earlier try may have added it, else 0
-- ARGV[4]  token of this dead letter
-- ARGV[5]  name of a field, its value, and so on
-- Returns 1; 2 if an ACL forbids the limits; or 0 if an earlier try has added it.

-- Number of dead letters among which that of an earlier try is looked for.
local RECENT = 200

if ARGV[3] == '1' then
  for _, letter in ipairs(redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', RECENT)) do
    local fields = letter[2]
    for index = 1, #fields, 2 do
      if fields[index] == 'dead-token' and fields[index + 1] == ARGV[4] then
        return 0
      end
    end
  end
end
redis.call('XADD', KEYS[1], '*', unpack(ARGV, 5))
if KEYS[2] then
  record_death(KEYS[2], ARGV, 5)
end
return limit_dead_letters(KEYS[1], ARGV[1], ARGV[2]) and 1 or 2
