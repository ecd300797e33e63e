--- @include "book_rows"
--- @include "change_exposure"
local profits = {} -- by quote currency: what was earned, millionths

-- Give a reservation back and write the position, as COMMIT after fields[before] says. Where the entry
-- shows no admission, that was lost with a primary and its reservation with it; a reservation that is
-- there belongs to another signal.
local function settle_position(admitted, fields, before)
  if fields[before + COMMIT.RESTS] then
    --- @include "rest_order"
    return rest_order(fields, before)
  end
  local key, quote = fields[before + COMMIT.POSITION_KEY], fields[before + COMMIT.QUOTE]
  local others = not admitted and book[key] and string.match(book[key], '^%a+ %S+') or ''
  if not admitted then change_exposure(quote, fields[before + COMMIT.RESERVED]) end
  local position = fields[before + COMMIT.POSITION] or read_position(book[key])
  if others == '' then book[key] = position
  else book[key] = others .. (position ~= '' and ' ' or '') .. position end
  touched[#touched + 1] = key
  change_exposure(quote, fields[before + COMMIT.EXPOSURE])
  local realized = fields[before + COMMIT.REALIZED]
  if realized ~= 0 then profits[quote] = (profits[quote] or 0) + realized end
end
