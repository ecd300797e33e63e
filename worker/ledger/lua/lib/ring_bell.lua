--- @include "keys"
-- Ring the bell: wake the workers that wait for work. They look for it by themselves too, so a bell
-- that takes no more ids must not stop a script half-way; `sweep` makes it anew.
local function ring_bell()
  redis.pcall('XADD', P .. 'bell', 'MAXLEN', 1, '*', 'r', '1')
end
