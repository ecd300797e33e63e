--- @include "keys"
-- The server's clock: one time for the whole call, Unix milliseconds.
local time = call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
