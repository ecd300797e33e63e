--- @include "keys"
-- Add to a number in a hash. HINCRBY takes no exponent, and some servers would write 1e+17.
local function add_to_number(key, field, change)
  if math.abs(change) >= 1e15 then change = string.format('%.0f', change) end
  call('HINCRBY', key, field, change)
end
