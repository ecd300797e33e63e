--- @include "bell"
-- Let any worker take an entry.
local function offer(id)
  call('RPUSH', P .. 'released', id)
  ring()
end
