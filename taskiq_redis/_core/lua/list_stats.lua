-- Counts the messages of a queue in a list.
--
-- Needs queue_state.lua.
--
-- KEYS[1]  list: the queue
-- KEYS[2]  sorted set: its delayed messages
-- KEYS[3]  stream: its dead letters
-- KEYS[4]  exists while the queue is paused
-- Returns what queue_state.lua returns, and the length of the list.

return {queue_state(KEYS[2], KEYS[3], KEYS[4]), redis.call('LLEN', KEYS[1])}
