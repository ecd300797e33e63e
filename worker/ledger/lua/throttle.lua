-- Keep the whole fleet from sending to an exchange for a while; never shortens a pause.
-- ARGV: exchange, pause ms
-- Returns the pause now in force, ms
local at = now()
local current = tonumber(call('HGET', P .. 'throttle', ARGV[1]) or 0)
local until_ms = math.max(current, at + tonumber(ARGV[2]))
call('HSET', P .. 'throttle', ARGV[1], until_ms)
return until_ms - at
