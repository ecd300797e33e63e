--- @include "keys"
local trading_state = call('HGET', P .. 'control', 'trading_state') or 'ACTIVE'
