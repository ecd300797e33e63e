--- @include "indexes"
-- Change what the account's positions count for in a quote currency, in millionths.
local function expose(quote, change)
  if change ~= 0 then exposures[quote] = (exposures[quote] or 0) + change end
end
