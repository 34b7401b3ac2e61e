-- Removes IDs that are of no use from the lists for 1.2.4.
--
-- When no schedule is left, it also removes what is stored about them.
--
-- Needs schedule_index.lua.
--
-- KEYS[1]  the first of the six keys of schedule_index.lua
-- KEYS[7]  list of crons, which is written anew
-- KEYS[8]  list of intervals, likewise
-- KEYS[9]  list of a minute, which is deleted when none of its schedules is left; further ones follow
-- ARGV     the minutes
-- Returns the number of minutes whose lists are still used.

for index = 7, 8 do
  local list = KEYS[index]
  if not wrong_type(list, 'list') and is_indexed(list) then
    local left, seen = {}, {}
    for _, id in ipairs(redis.call('LRANGE', list, 0, -1)) do
      local score = redis.call('ZSCORE', due, id)
      if (score == '0' or score == 'inf') and not seen[id] then
        seen[id] = true
        left[#left + 1] = id
      end
    end
    redis.call('DEL', list)
    for _, id in ipairs(left) do
      redis.call('RPUSH', list, id)
    end
    set_indexed(list)
  end
end

local used_minutes = 0
for index, minute in ipairs(ARGV) do
  local list = KEYS[index + 8]
  local start = tonumber(redis.call('ZSCORE', minutes, minute) or '')
  local is_list = redis.call('TYPE', list).ok == 'list'
  local used = start and is_list and not is_indexed(list)
  if start and is_list and not used then
    for _, id in ipairs(redis.call('LRANGE', list, 0, -1)) do
      local score = redis.call('ZSCORE', due, id) or '-1'
      if score == 'inf' or math.floor(tonumber(score) / 60000) * 60000 == start then
        used = true
        break
      end
    end
  end
  if used then
    used_minutes = used_minutes + 1
  else
    if is_list then
      redis.call('DEL', list)
    end
    redis.call('HDEL', meta, 'list ' .. list)
    redis.call('ZREM', minutes, minute)
  end
end

if redis.call('EXISTS', due, minutes, KEYS[7], KEYS[8]) == 0 then
  redis.call('DEL', meta, changes, fired, claims)
end
return used_minutes
