--- @include "keys"
-- Wake the workers that wait for work.
local function ring()
  call('XADD', P .. 'bell', 'MAXLEN', 1, '*', 'r', '1')
end
