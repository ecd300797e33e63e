-- The open positions, and what is being changed at this moment.
-- Returns {place, what `place_of` in prelude.lua reads ...}
return call('HGETALL', P .. 'book')
