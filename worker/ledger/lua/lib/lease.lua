--- @include "indexes"
-- Set the end of an entry's lease to `expires` (Redis time, ms).
local function lease(id, expires)
  local n = #leased
  leased[n + 1], leased[n + 2] = expires, id
end
