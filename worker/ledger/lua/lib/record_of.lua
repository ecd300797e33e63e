--- @include "records"
-- Read the execution record of a signal; see `read_record`.
local function record_of(signal)
  return read_record(call('GET', P .. 'record:' .. signal))
end
