-- Keep the whole fleet from asking an exchange anything for a while; never shortens a pause.
-- KEYS[1] {account}:signals
-- ARGV[1] budget: an exchange's name, or that with a digest of the API key
-- ARGV[2] pause: ms
-- Returns the pause now in force, ms
--- @include "clock"
--- @include "ring_bell"
local all = call('HGETALL', P .. 'throttle')
local current = 0
for n = 1, #all, 2 do
  local until_ms = tonumber(all[n + 1])
  if all[n] == ARGV[1] then
    current = until_ms
  elseif until_ms <= now_ms then
    call('HDEL', P .. 'throttle', all[n])
  end
end
local until_ms = math.max(current, now_ms + tonumber(ARGV[2]))
call('HSET', P .. 'throttle', ARGV[1], until_ms)
ring_bell() -- workers that wait for signals learn it now
return until_ms - now_ms
