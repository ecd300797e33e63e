--- @include "clock"
--- @include "add_to_number"
-- Add a realised profit (a loss if negative), in millionths, to today's and the total profit in a
-- quote currency.
local function book_profit(quote, profit)
  if profit == 0 then return end
  local day = P .. 'day:' .. math.floor(now_ms / 86400000)
  add_to_number(day, quote, profit)
  call('EXPIRE', day, 259200)
  add_to_number(P .. 'realized', quote, profit)
end
