-- Functions for scripts that add schedules.
--
-- Their last keys are pairs: the bytes of a schedule, and the list where 1.2.4 looks for its ID.
-- Their last arguments are groups: ID, bytes, due time in ms, and minute of the list or ''.

-- Returns an error reply if a key can't take a schedule.
local function check_keys(first_key)
  local failure = wrong_type(due, 'zset') or wrong_type(meta, 'hash')
    or wrong_type(changes, 'list') or wrong_type(minutes, 'zset')
  for index = first_key, #KEYS, 2 do
    failure = failure or wrong_type(KEYS[index], 'string')
  end
  return failure
end

local function put(key, list, id, bytes, score, minute)
  local before = tonumber(redis.call('ZSCORE', due, id) or '')
  -- 1.2.4 removes an ID from the list when it deletes the schedule.
  local exists = redis.call('EXISTS', key) == 1
  redis.call('SET', key, bytes)
  redis.call('ZADD', due, score, id)
  -- An ID that is in the list of its minute already isn't added again.
  local listed = minute ~= '' and exists and before
    and math.floor(before / 60000) == math.floor(score / 60000)
  if listed or wrong_type(list, 'list') or redis.call('LINDEX', list, -1) == id then
    return
  end
  local indexed = is_indexed(list)
  redis.call('RPUSH', list, id)
  if indexed then
    set_indexed(list)
  end
  if minute ~= '' then
    redis.call('ZADD', minutes, score - score % 60000, minute)
  end
end
