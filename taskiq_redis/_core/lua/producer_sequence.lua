-- Functions for other scripts: whether a producer's batch was added before.

-- ms; TTL of the number of a producer's last batch: longer than a command can be delayed in the
-- network. A number takes about 100 bytes.
local NUMBER_TTL = 600000

-- Records the number of a batch, and returns nil if the batch is new. If not, it returns what the key
-- holds: this number, that of a later batch, or something that no producer has written.
local function record_batch(key, number)
  local last = redis.pcall('SET', key, number, 'PX', NUMBER_TTL, 'GET')
  if type(last) == 'table' then
    return string.find(last.err, '^WRONGTYPE') and 'another type' or last
  end
  -- Not tonumber alone, which also takes inf, nan and 0x10.
  if not last or string.find(last, '^%d+$') and tonumber(last) < tonumber(number) then
    return nil
  end
  if last ~= number then
    redis.call('SET', key, last, 'PX', NUMBER_TTL)
  end
  return string.sub(last, 1, 20)
end

-- Forgets a batch, if adding its first message has failed.
local function forget_batch(key, number)
  redis.call('SET', key, number - 1, 'PX', NUMBER_TTL)
end
