--- @include "indexes"
-- Let an entry's lease end at `expires` (ms).
local function lease(id, expires)
  local n = #leased
  leased[n + 1], leased[n + 2] = expires, id
end
