#!lua flags=allow-oom
-- Renew a worker's leases and announce it.
-- ARGV: worker, lease ms, status (JSON), then id and token of every entry it holds
-- Returns {ids no longer held, trading state}
local worker = ARGV[1]
local at = now()
local expires = at + tonumber(ARGV[2])
local lost = {}
for n = 4, #ARGV, 2 do
  local id = ARGV[n]
  if held(id, worker, tonumber(ARGV[n + 1])) then redis.call('ZADD', P .. 'leases', expires, id)
  else lost[#lost + 1] = id end
end
redis.call('HSET', P .. 'workers', worker, at .. ' ' .. ARGV[3])
return {lost, redis.call('HGET', P .. 'control', 'trading_state') or 'ACTIVE'}
