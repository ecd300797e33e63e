--- @include "keys"
-- The output streams by their short names.
local STREAM = {orders = P .. 'orders', positions = P .. 'positions', system = P .. 'system'}

-- Keep an output stream at about its length.
local function trim(stream, length)
  call('XTRIM', STREAM[stream], 'MAXLEN', '~', length)
end
