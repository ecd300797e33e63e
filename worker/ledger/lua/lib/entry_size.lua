--- @include "keys"
-- The size of entries, and of the replies that carry them.
local replied = 0 -- bytes of entries and records: in this reply so far, or read for it in vain

-- Return the bytes of an entry's field names and values.
local function entry_size(fields)
  local bytes = 0
  for n = 1, #fields do bytes = bytes + #fields[n] end
  return bytes
end

-- Return whether an entry with these fields, of so many bytes, is larger than one may be.
local function is_too_large(fields, bytes)
  return bytes > LIMIT.ENTRY_BYTES or #fields > 2 * LIMIT.ENTRY_FIELDS
end

-- Return whether the reply may still grow.
local function has_room() return replied < LIMIT.REPLY_BYTES end
