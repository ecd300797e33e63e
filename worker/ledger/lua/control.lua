#!lua flags=allow-oom
-- Change the trading state and write an event about it; the same state again only changes who set it,
-- and why.
-- KEYS[1] {account}:signals
-- ARGV[1] trading state
-- ARGV[2] reason
-- ARGV[3] actor: who changes it
-- ARGV[4] at: when (RFC 3339)
-- ARGV[5] id of the event
-- ARGV[6] data of the event, JSON
-- ARGV[7] length: about how many entries an output stream keeps
-- Returns the state before
--- @include "trading_state"
--- @include "append_event"
--- @include "ring_bell"
call('HSET', P .. 'control', 'trading_state', ARGV[1], 'reason', ARGV[2], 'actor', ARGV[3],
  'at', ARGV[4])
if trading_state ~= ARGV[1] then
  append_event('system', 'TradingStateChanged', ARGV[5], ARGV[6], '')
  trim('system', ARGV[7])
  ring_bell()
end
return trading_state
