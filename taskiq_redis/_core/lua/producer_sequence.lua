-- Functions for other scripts: whether a producer's batch was added before.

-- ms; TTL of the number of a producer's last batch: longer than a command can be delayed in the
-- network. A number takes about 100 bytes.
local NUMBER_TTL = 600000

-- Records the number of a batch, and returns whether the batch is new.
local function record_batch(key, number)
  local last = redis.call('SET', key, number, 'PX', NUMBER_TTL, 'GET') or '0'
  if tonumber(last) > tonumber(number) then
    -- A later batch was added before this one arrived.
    redis.call('SET', key, last, 'PX', NUMBER_TTL)
  end
  return tonumber(last) < tonumber(number)
end

-- Forgets a batch, if adding its first message has failed.
local function forget_batch(key, number)
  redis.call('SET', key, number - 1, 'PX', NUMBER_TTL)
end
