--- @include "indexes"
-- Change one field of a known entry; flush.lua writes it.
local function put_field(id, field, value)
  local entry = entries[id]
  entry[ENTRY.TEXT], entry[field], changed[#changed + 1] = false, value, id
end
