--- @include "lines"
--- @include "put_field"
-- Note that an entry heads its group now.
local function leave_line(id)
  read_entries({id})
  local entry = entries[id]
  local kind = entry and entry[ENTRY.REFUSED]
  if kind ~= LINE.OPENING and kind ~= LINE.OTHER then return end
  add_to_line((kind == LINE.OTHER and '-' or '') .. entry[ENTRY.GROUP], -1)
  put_field(id, ENTRY.REFUSED, '')
end
