--- @include "clock"
--- @include "read_number"
--- @include "trading_state"
--- @include "change_exposure"
-- The limits of the whole account, and the numbers they are compared with; `rule_broken` checks an
-- order.
local day = P .. 'day:' .. math.floor(now_ms / 86400000)
local rate = P .. 'rate:' .. math.floor(now_ms / 60000)
local open_positions = call('HLEN', P .. 'book') -- grows with each admission of this call
local totals, profits = {}, {} -- by quote currency: what the account's hashes have, once read

-- Return the code of the first limit on openings that an order breaks, or nil. ADMIT of the order
-- begins after fields[before].
local function limit_broken(fields, before)
  local quote = fields[before + ADMIT.QUOTE]
  if open_positions >= fields[before + ADMIT.MAX_POSITIONS] then return 'MAX_POSITIONS' end
  local max_exposure = fields[before + ADMIT.MAX_EXPOSURE]
  if max_exposure > 0 then
    local total = totals[quote] or read_number(P .. 'totals', quote, totals)
    total = total + (exposures[quote] or 0)
    if total + fields[before + ADMIT.NOTIONAL] > max_exposure then return 'MAX_EXPOSURE' end
  end
  local max_loss = fields[before + ADMIT.MAX_LOSS]
  if max_loss > 0 and -(profits[quote] or read_number(day, quote, profits)) >= max_loss then
    return 'DAILY_LOSS_LIMIT'
  end
  local max_rate = fields[before + ADMIT.MAX_RATE]
  if max_rate > 0 then
    if call('INCR', rate) > max_rate then return 'ORDER_RATE_LIMIT' end
    call('EXPIRE', rate, 120)
  end
end

-- Return the code of the first rule an order breaks, or nil.
local function rule_broken(fields, before, position, reservation)
  -- An order that may exist already will not be sent: it needs its position whatever the limits.
  local sends = not fields[before + ADMIT.ONLY_LOOK]
  if sends and trading_state ~= 'ACTIVE' and trading_state ~= 'REDUCING' then
    return 'TRADING_HALTED'
  end
  if fields[before + ADMIT.ACTION] ~= 'open' then
    if reservation then return 'POSITION_BUSY' end
    if position == '' then return 'NO_POSITION' end
    local opener = fields[before + ADMIT.OPENER]
    if not (sends and opener) then return nil end
    local strategy = cjson.decode(position).strategy_id -- of the signal that opened it
    return opener ~= (type(strategy) == 'string' and strategy or '') and 'NOT_THE_OPENER' or nil
  end
  if sends and trading_state == 'REDUCING' then return 'TRADING_REDUCING' end
  if reservation == RESERVATION.OPENING or reservation and not sends then return 'POSITION_BUSY' end
  if not sends then return nil end -- if it traded, it is part of whatever position there is
  if reservation or position ~= '' then return 'POSITION_EXISTS' end
  return limit_broken(fields, before)
end
