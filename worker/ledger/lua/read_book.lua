-- Return the open positions and the reservations.
-- KEYS[1] {account}:signals
-- Returns {position key, what read_position (lib/read_position.lua) reads ...}
--- @include "keys"
return call('HGETALL', P .. 'book')
