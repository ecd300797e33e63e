--- @include "book_rows"
--- @include "account_limits"
-- Reserve an order's position and exposure. ADMIT of the order begins after fields[before].
local function reserve(fields, before, position)
  local key, signal = fields[before + ADMIT.POSITION_KEY], fields[before + ADMIT.SIGNAL]
  if fields[before + ADMIT.ACTION] == 'open' then
    change_exposure(fields[before + ADMIT.QUOTE], fields[before + ADMIT.NOTIONAL])
  end
  if position ~= '' then book[key] = RESERVATION.CLOSING .. ' ' .. signal .. ' ' .. position
  else book[key], open_positions = RESERVATION.OPENING .. ' ' .. signal, open_positions + 1 end
  touched[#touched + 1] = key
end
