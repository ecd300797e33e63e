#!lua flags=allow-oom
-- Change the trading state and say so; the same state again only changes who says it, and why.
-- ARGV: state, reason, actor, at (RFC 3339), event id, event data, output length
-- Returns the state before
local before = call('HGET', P .. 'control', 'trading_state') or 'ACTIVE'
call('HSET', P .. 'control', 'trading_state', ARGV[1], 'reason', ARGV[2], 'actor', ARGV[3],
  'at', ARGV[4])
if before ~= ARGV[1] then
  append('system', 'TradingStateChanged', ARGV[5], ARGV[6], '')
  trim('system', ARGV[7])
  ring()
end
return before
