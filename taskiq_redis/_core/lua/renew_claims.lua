-- Renews claims that are still held, or ends them.
--
-- Needs schedule_index.lua.
--
-- KEYS[1]  the first of the six keys of schedule_index.lua
-- ARGV[1]  ms; duration of the lease; 0 ends it
-- ARGV[2]  ID of a schedule; the token of its claim and further pairs follow
-- Returns nothing.

local now = now_ms()
for index = 2, #ARGV, 2 do
  local id, token = ARGV[index], ARGV[index + 1]
  if holder_of(id, now) == token then
    if ARGV[1] == '0' then
      redis.call('HDEL', claims, id)
    else
      hold(id, token, now, ARGV[1])
    end
  end
end
