--- @include "book"
--- @include "exposure"
--- @include "profits"
local profits = {} -- by quote currency: what was earned, millionths

-- Give a reservation back and write the position, as COMMIT after fields[before] says. An admission
-- of which nothing is known was lost with a primary, and its reservation with it; if there is one, it
-- is another signal's.
local function settle(admitted, fields, before)
  local key, quote = fields[before + COMMIT.POSITION_KEY], fields[before + COMMIT.QUOTE]
  local others = not admitted and book[key] and string.match(book[key], '^%a+ %S+') or ''
  if not admitted then expose(quote, fields[before + COMMIT.RESERVED]) end
  local position = fields[before + COMMIT.POSITION] or read_position(book[key])
  if others == '' then book[key] = position
  else book[key] = others .. (position ~= '' and ' ' or '') .. position end
  settled[#settled + 1] = key
  expose(quote, fields[before + COMMIT.EXPOSURE])
  local realized = fields[before + COMMIT.REALIZED]
  if realized ~= 0 then profits[quote] = (profits[quote] or 0) + realized end
end

local function write_profits()
  for quote, profit in pairs(profits) do earn(quote, profit) end
end
