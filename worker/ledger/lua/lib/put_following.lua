--- @include "put_field"
-- Note the entry behind another. The last two fields are empty at first, and this one is mostly the
-- first that changes: it replaces the end of the text, for packing all fields anew costs more.
local function put_following(id, following)
  local text = entries[id][ENTRY.TEXT]
  put_field(id, ENTRY.FOLLOWING, following)
  if text and string.sub(text, -2) == EMPTY .. EMPTY then
    entries[id][ENTRY.TEXT] = string.sub(text, 1, -3) .. encode(following) .. EMPTY
  end
end
