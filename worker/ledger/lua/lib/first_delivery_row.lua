--- @include "indexes"
-- Return an entry's first delivery as a reply has it: its fields, or the text of `data` if that is
-- all, for a list in a reply is costly.
local function first_delivery_row(fields)
  if #fields == 2 and fields[1] == 'data' then return fields[2] end
  return fields
end
