--- @include "clock"
-- Return the budgets that an exchange wants no request of, each with for how many milliseconds.
local function holds()
  local found, all = {}, call('HGETALL', P .. 'throttle')
  for n = 1, #all, 2 do
    local left_ms = tonumber(all[n + 1]) - now_ms
    if left_ms > 0 then
      found[#found + 1] = all[n]
      found[#found + 1] = left_ms
    end
  end
  return found
end
