-- Adds the schedules that 1.2.4 wrote to the index.
--
-- Needs schedule_index.lua.
--
-- KEYS[1]  the first of the six keys of schedule_index.lua
-- KEYS[7]  list of 1.2.4; further ones follow
-- ARGV     for each list, the score of its IDs, and its minute or ''
-- Returns nothing.

local grown = false
for index = 7, #KEYS do
  local place = 1 + 2 * (index - 7)
  if not wrong_type(KEYS[index], 'list') then
    grown = index_list(KEYS[index], ARGV[place], ARGV[place + 1]) or grown
  end
end
if grown then
  forget_changes()
end
