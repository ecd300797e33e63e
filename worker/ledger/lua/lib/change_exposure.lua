--- @include "indexes"
-- Change the account's exposure in a quote currency, by millionths; flush.lua writes it.
local function change_exposure(quote, change)
  if change ~= 0 then exposures[quote] = (exposures[quote] or 0) + change end
end
