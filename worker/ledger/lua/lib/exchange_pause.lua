--- @include "clock"
--- @include "read_number"
-- Return for how many more milliseconds the fleet sends nothing to an exchange; 0 for no pause.
local pauses = {} -- by exchange: until when nothing is sent to it

local function exchange_pause(exchange)
  local until_ms = pauses[exchange] or read_number(P .. 'throttle', exchange, pauses)
  return until_ms > now_ms and until_ms - now_ms or 0
end
