-- Functions for other scripts: whether a producer's batch was added before.

-- ms; how long the number of a producer's last batch is kept: longer than any delay of a command in
-- the network. A number takes about 100 bytes.
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

-- Forgets a batch of which nothing was added.
local function forget_batch(key, number)
  redis.call('SET', key, number - 1, 'PX', NUMBER_TTL)
end
