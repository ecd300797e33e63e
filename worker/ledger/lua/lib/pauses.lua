--- @include "clock"
--- @include "numbers"
local pauses = {} -- by exchange: until when nothing is sent to it

-- Return for how many milliseconds the fleet sends nothing to an exchange.
local function pause_of(exchange)
  local until_ms = pauses[exchange] or read_number(P .. 'throttle', exchange, pauses)
  return until_ms > now_ms and until_ms - now_ms or 0
end
