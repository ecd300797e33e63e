--- @include "keys"
-- The account's trading state.
local trading_state = call('HGET', P .. 'control', 'trading_state') or 'ACTIVE'
