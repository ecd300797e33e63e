-- Keep the whole fleet from sending to an exchange for a while; never shortens a pause.
-- KEYS[1] {account}:signals
-- ARGV[1] exchange
-- ARGV[2] pause: ms
-- Returns the pause now in force, ms
--- @include "clock"
local current = tonumber(call('HGET', P .. 'throttle', ARGV[1]) or 0)
local until_ms = math.max(current, now_ms + tonumber(ARGV[2]))
call('HSET', P .. 'throttle', ARGV[1], until_ms)
return until_ms - now_ms
