--- @include "indexes"
-- Return what a reply says of an entry's first delivery: its fields, or the text of `data` if that is
-- all, for a list in a reply is costly.
local function first_delivery(fields)
  if #fields == 2 and fields[1] == 'data' then return fields[2] end
  return fields
end
