#!lua flags=allow-oom
-- Renew a worker's leases and announce the worker.
-- KEYS[1] {account}:signals
-- ARGV[1] worker: consumer name
-- ARGV[2] lease: ms
-- ARGV[3] status, JSON
-- ARGV[4] names of the budgets of requests that the worker uses, separated by spaces
-- ARGV[5...] HELD of every entry that the worker holds
-- Returns HEARTBEAT
--- @include "clock"
--- @include "fence"
--- @include "holds"
--- @include "lease"
--- @include "shares"
--- @include "trading_state"
local worker, expires = ARGV[1], now_ms + tonumber(ARGV[2])
local ids, lost = {}, {}
for before = 4, #ARGV - 1, HELD.SIZE do ids[#ids + 1] = ARGV[before + HELD.ENTRY] end
if #ARGV - 4 ~= HELD.SIZE * #ids then
  error('heartbeat: ' .. #ARGV - 4 .. ' arguments for entries of HELD.SIZE each', 0)
end
read_entries(ids)
for n, id in ipairs(ids) do
  local token = tonumber(ARGV[4 + HELD.SIZE * (n - 1) + HELD.TOKEN])
  if passes_fence(id, worker, token) then lease(id, expires) else lost[#lost + 1] = id end
end
if trading_state ~= 'ACTIVE' then -- what rests is to be cancelled now
  -- Whoever is due already keeps its place before those whose turn runs.
  for _, key in ipairs(call('HKEYS', P .. 'live')) do call('ZADD', P .. 'agenda', 'LT', now_ms, key) end
end
call('HSET', P .. 'workers', worker, now_ms .. ' ' .. ARGV[3])
do
  --- @include "flush"
end
return HEARTBEAT{LOST = lost, TRADING_STATE = trading_state,
  SHARES = shares(ARGV[4], worker, tonumber(ARGV[2])), HOLDS = holds()}
