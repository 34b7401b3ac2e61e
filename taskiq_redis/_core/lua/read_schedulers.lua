-- Reads the registered schedulers.
--
-- KEYS[1]  hash of the schedulers, described in scheduler_registration.lua
-- Returns the time in ms of Unix time, and the fields and values of the hash.

local time = redis.call('TIME')
return {time[1] * 1000 + math.floor(time[2] / 1000), redis.call('HGETALL', KEYS[1])}
