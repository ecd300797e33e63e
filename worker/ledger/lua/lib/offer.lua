--- @include "ring_bell"
-- Offer an entry to any worker.
local function offer(id)
  call('RPUSH', P .. 'released', id)
  ring_bell()
end
