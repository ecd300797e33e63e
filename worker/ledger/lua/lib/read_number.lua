--- @include "keys"
-- Read a number in a hash, 0 if there is none, and keep it in `cache`.
local function read_number(key, field, cache)
  local number = tonumber(call('HGET', key, field) or 0)
  cache[field] = number
  return number
end
