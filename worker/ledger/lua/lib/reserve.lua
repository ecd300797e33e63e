--- @include "book_rows"
--- @include "account_limits"
local admission_times -- by counter of a window: time and entry id of each order admitted by this call

-- Reserve an order's position, and count it in what is limited. ADMIT of the order begins after
-- fields[before].
local function reserve(fields, before, position)
  local key, signal = fields[before + ADMIT.POSITION_KEY], fields[before + ADMIT.SIGNAL]
  local last = fields[before + ADMIT.LAST_LIMIT]
  for at = fields[before + ADMIT.FIRST_LIMIT], last, LIMIT_ROW.SIZE do
    local kind, counter = limits[at + LIMIT_ROW.KIND], limits[at + LIMIT_ROW.COUNTER]
    if kind == KIND.SUM then
      change_exposure(counter, limits[at + LIMIT_ROW.ADD] or fields[before + ADMIT.NOTIONAL])
    elseif kind == KIND.WINDOW then
      admission_times = admission_times or {}
      local times = admission_times[counter] or {}
      times[#times + 1], times[#times + 2] = now_ms, fields[before + ADMIT.ENTRY]
      admission_times[counter], numbers[counter] = times, #times / 2
    end
  end
  if position ~= '' then book[key] = RESERVATION.CLOSING .. ' ' .. signal .. ' ' .. position
  else book[key], numbers.book = RESERVATION.OPENING .. ' ' .. signal, numbers.book + 1 end
  touched[#touched + 1] = key
end
