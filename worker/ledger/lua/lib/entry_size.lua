--- @include "keys"
-- The size of entries, and of the replies that carry them. (A call makes every function anew, which costs
-- a lone signal the most: these libraries have few.)
local oversize = {} -- id and error of each entry that was buried because it is too large
local replied = 0 -- bytes of entries and records: in this reply so far, or read for it in vain

-- Return the bytes of an entry's field names and values, and whether that is more than one may have.
local function entry_size(fields)
  local bytes = 0
  for n = 1, #fields do bytes = bytes + #fields[n] end
  return bytes, bytes > LIMIT.ENTRY_BYTES or #fields > 2 * LIMIT.ENTRY_FIELDS
end
