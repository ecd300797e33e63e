--- @include "clock"
--- @include "counters"
-- Book what was earned today (lost, if less than 0) in a quote currency, in millionths.
local function earn(quote, profit)
  if profit == 0 then return end
  local day = P .. 'day:' .. math.floor(now_ms / 86400000)
  add(day, quote, profit)
  call('EXPIRE', day, 259200)
  add(P .. 'realized', quote, profit)
end
