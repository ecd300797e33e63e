--- @include "keys"
-- Return the id that an entry of a stream got when it was copied; false if it kept its own.
local function new_id(stream, id)
  return call('HGET', P .. 'mending-ids:' .. stream, id)
end
