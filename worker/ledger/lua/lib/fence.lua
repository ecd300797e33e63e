--- @include "indexes"
-- The fence: return whether `worker` was granted the entry last, under `token`; no other may act on it.
local function passes_fence(id, worker, token)
  local entry = entries[id]
  return entry and entry[ENTRY.WORKER] == worker and entry[ENTRY.TOKEN] == token
end
