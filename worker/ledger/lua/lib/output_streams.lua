--- @include "keys"
-- The output streams by their short names.
local STREAM = {orders = P .. 'orders', positions = P .. 'positions', system = P .. 'system'}
