--- @include "decode_record"
-- Read the execution record of a signal; see `decode_record`.
local function find_record(signal)
  return decode_record(call('GET', P .. 'record:' .. signal))
end
