--- @include "indexes"
-- Set the end of the lease of an entry, or of a turn (`@` and a position key), to `expires` (Redis time,
-- ms).
local function lease(id, expires)
  local list = string.byte(id) == 64 and turned or leased -- @
  local n = #list
  list[n + 1], list[n + 2] = expires, id
end
