--- @include "keys"
-- Ring the bell: wake the workers that wait for work.
local function ring_bell()
  call('XADD', P .. 'bell', 'MAXLEN', 1, '*', 'r', '1')
end
