-- The last look before an order is sent again: still ours, and may the account trade?
-- ARGV: worker, id, token, exchange
-- Returns {held, trading state, pause ms}
local id = ARGV[2]
know({id})
-- An admission that a primary took with it is none: the entry comes again and is admitted anew.
local ours = held(id, ARGV[1], tonumber(ARGV[3])) and entries[id][SIGNAL] ~= ''
-- Written again unchanged, so that waiting for replicas waits for the record's writes too.
if ours then changed[id] = true end
flush()
local until_ms = tonumber(redis.call('HGET', P .. 'throttle', ARGV[4]) or 0)
return {
  ours and 1 or 0,
  redis.call('HGET', P .. 'control', 'trading_state') or 'ACTIVE',
  math.max(until_ms - now(), 0),
}
