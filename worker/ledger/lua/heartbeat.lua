#!lua flags=allow-oom
-- Renew a worker's leases and announce it.
-- ARGV: worker, lease ms, status (JSON), then id and token of every entry it holds
-- Returns {ids no longer held, trading state}
local worker = ARGV[1]
local at = now()
local expires = at + tonumber(ARGV[2])
local ids, lost = {}, {}
for n = 4, #ARGV, 2 do ids[#ids + 1] = ARGV[n] end
know(ids)
for n, id in ipairs(ids) do
  if held(id, worker, tonumber(ARGV[2 * n + 3])) then lease(id, expires)
  else lost[#lost + 1] = id end
end
call('HSET', P .. 'workers', worker, at .. ' ' .. ARGV[3])
flush()
return {lost, call('HGET', P .. 'control', 'trading_state') or 'ACTIVE'}
