--- @include "indexes"
-- The fence: only the worker that was granted an entry last may act on it.
local function held(id, worker, token)
  local entry = entries[id]
  return entry and entry[ENTRY.WORKER] == worker and entry[ENTRY.TOKEN] == token
end
