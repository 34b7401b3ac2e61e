-- Registers a scheduler whose source has a key per schedule.
--
-- Needs scheduler_registration.lua.
--
-- KEYS[1]  hash of the schedulers
-- ARGV[1]  name of the scheduler
-- ARGV[2]  ms; interval in which it registers
-- ARGV[3]  ms; time since it started
-- ARGV[4]  its process ID, version and host
-- Returns the text of an error, or ''.

return register_scheduler(KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4])
