-- Moves dead letters back to the end of their queue.
--
-- Needs task_records.lua.
--
-- KEYS[1]  stream or list: the queue
-- KEYS[2]  stream of dead letters
-- KEYS[3]  of a list only; sorted set: digests of refused messages, see record_unknown_task.lua
-- KEYS[4]  sorted set: the records of tasks, KEYS[3] of a stream; left out if they are not tracked
-- ARGV[1]  names, with spaces, of the fields that a dead letter has after those of its message
-- ARGV[2]  command that adds a message, XADD or LPUSH
-- ARGV[3]  ID of a dead letter; further IDs follow
-- Returns the number of dead letters that were moved; the IDs of those that can't be added to the
-- queue; and why the last one of them can't.

local is_list = ARGV[2] == 'LPUSH'
local refused_key, records = is_list and KEYS[3], KEYS[is_list and 4 or 3]

-- Names and values; unpack fails with more than about 8000.
local MAX_WORDS = 7000

local added = {}
for name in string.gmatch(ARGV[1], '%S+') do
  added[name] = true
end

-- Adds the first fields of a dead letter to the queue, and returns the reply.
local function add(fields, last)
  if not is_list then
    return redis.pcall('XADD', KEYS[1], '*', unpack(fields, 1, last))
  end
  for index = 1, last, 2 do
    if fields[index] == 'data' then
      -- It may be refused for as long as a new message.
      redis.pcall('ZREM', refused_key, redis.sha1hex(fields[index + 1]))
      return redis.pcall('LPUSH', KEYS[1], fields[index + 1])
    end
  end
  return {err = 'ERR it has no field data'}
end

local done, refused, reason = 0, {}, ''
for index = 3, #ARGV do
  local letter = redis.call('XRANGE', KEYS[2], ARGV[index], ARGV[index])[1]
  local last, digest = letter and #letter[2] or 0, nil
  while last > 0 and added[letter[2][last - 1]] do
    digest = letter[2][last - 1] == DIGEST_FIELD and letter[2][last] or digest
    last = last - 2
  end
  local failure, reply
  if last > MAX_WORDS then
    failure = 'it has too many fields'
  elseif last > 0 then
    reply = add(letter[2], last)
    failure = type(reply) == 'table' and reply.err
    -- Others than ERR, such as WRONGTYPE and OOM, are not because of this message.
    if failure and not string.find(failure, '^ERR ') then
      return reply
    end
  end
  if failure then
    refused[#refused + 1] = ARGV[index]
    reason = failure
  elseif last > 0 then
    -- An entry of another program, without the fields of a message, is kept.
    redis.call('XDEL', KEYS[2], ARGV[index])
    done = done + 1
    if records and digest then
      change_record(records, score_of_added(reply, current_time()), digest)
    end
  end
end
if redis.call('XLEN', KEYS[2]) == 0 then
  redis.call('DEL', KEYS[2])
end
return {done, refused, reason}
