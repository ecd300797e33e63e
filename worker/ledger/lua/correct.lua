#!lua flags=allow-oom
-- A person says what a position really is.
-- ARGV: place, its position as it was (JSON), as it is ('' for none), quote currency, change of the
-- exposure and realised profit (millionths of it), what is told of the position and on `system`
-- (each event type, id, data), the signal that opened it, output length
-- Returns 'corrected', also when asked again; 'busy' if a signal is working on it; 'changed' if it is
-- no longer as it was
local place, before, after, quote, exposure, profit = unpack(ARGV, 1, 6)
local position, busy = place_of(call('HGET', P .. 'book', place))
if busy then return 'busy' end
if position == after then return 'corrected' end
if position ~= before then return 'changed' end
if after == '' then call('HDEL', P .. 'book', place) else call('HSET', P .. 'book', place, after) end
if exposure ~= '0' then add(P .. 'totals', quote, tonumber(exposure)) end
earn(quote, tonumber(profit), now())
append('positions', ARGV[7], ARGV[8], ARGV[9], ARGV[13])
append('system', ARGV[10], ARGV[11], ARGV[12], ARGV[13])
trim('positions', ARGV[14])
trim('system', ARGV[14])
return 'corrected'
