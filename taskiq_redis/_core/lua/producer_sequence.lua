-- Functions for other scripts: they tell whether a batch of a producer was here before.

-- ms; how long the number of a producer's last batch is kept. It has to outlast whatever may hold up
-- a command on its way, and costs about 100 bytes.
local NUMBER_TTL = 600000

-- Notes the number of a batch, and tells whether it is a new one.
local function note_batch(key, number)
  local last = redis.call('SET', key, number, 'PX', NUMBER_TTL, 'GET') or '0'
  if tonumber(last) > tonumber(number) then
    -- This one was overtaken.
    redis.call('SET', key, last, 'PX', NUMBER_TTL)
  end
  return tonumber(last) < tonumber(number)
end

-- Forgets a batch that was refused as a whole.
local function forget_batch(key, number)
  redis.call('SET', key, number - 1, 'PX', NUMBER_TTL)
end
