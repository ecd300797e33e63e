-- The last look before orders are sent again: still ours, and may the account trade?
-- ARGV: worker, then id, token and exchange of each
-- Returns {trading state, per order {held, pause ms}}
local worker, at, ids = ARGV[1], now(), {}
for n = 2, #ARGV, 3 do ids[#ids + 1] = ARGV[n] end
know(ids)
local results = {}
for n = 2, #ARGV, 3 do
  local id = ARGV[n]
  -- An admission that a primary took with it is none: the entry comes again and is admitted anew.
  local ours = held(id, worker, tonumber(ARGV[n + 1])) and entries[id][SIGNAL] ~= ''
  -- Written again unchanged, so that waiting for replicas waits for the record's writes too.
  if ours then changed[#changed + 1] = id end
  local until_ms = tonumber(call('HGET', P .. 'throttle', ARGV[n + 2]) or 0)
  results[#results + 1] = {ours and 1 or 0, math.max(until_ms - at, 0)}
end
flush()
return {call('HGET', P .. 'control', 'trading_state') or 'ACTIVE', results}
