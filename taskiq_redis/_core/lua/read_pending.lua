-- Reads pending entries that still exist.
--
-- KEYS[1]  stream
-- ARGV[1]  group
-- ARGV[2]  consumer for which handed-back entries are pending
-- ARGV[3]  1 to read the handed-back entries, 0 to read those of workers
-- ARGV[4]  ID of the first entry; with a round bracket before it, ID after which to begin
-- ARGV[5]  maximum number of entries to look up
-- ARGV[6]  bytes; no further entries are looked up after so many
-- Returns where the next call goes on, or '' after the last entry; and for each entry its ID, its
-- owner, its number of deliveries and its fields.

local LARGEST_ID = '18446744073709551615-18446744073709551615'

local handed_back = ARGV[3] == '1'
local command = {'XPENDING', KEYS[1], ARGV[1], ARGV[4], '+', ARGV[5]}
if handed_back then
  command[#command + 1] = ARGV[2]
end
local reply = redis.pcall(unpack(command))
if reply.err then
  -- Without the stream or the group, nothing is pending.
  if string.find(reply.err, '^-?NOGROUP') then
    return {'', {}}
  end
  return reply
end
local from, bytes = '', tonumber(ARGV[6])
local entries = {}
for index, row in ipairs(reply) do
  local id, owner = row[1], row[2]
  if handed_back or owner ~= ARGV[2] then
    local found = redis.call('XRANGE', KEYS[1], id, id)[1]
    if found then
      entries[#entries + 1] = {id, owner, row[4], found[2]}
      for _, word in ipairs(found[2]) do
        bytes = bytes - #word
      end
    end
  end
  if bytes <= 0 or index == tonumber(ARGV[5]) then
    from = id ~= LARGEST_ID and '(' .. id or ''
    break
  end
end
return {from, entries}
