--- @include "clock"
--- @include "trading_state"
--- @include "change_exposure"
-- The limits of the whole account: rows that the worker builds (limit_rows.py), and what is compared with
-- them; `rule_broken` checks an order.
local limits -- LIMIT_ROW of each, one behind the other; the script has them from the call
local stored = {} -- by place in `limits`: what a row's counter had come to before this call, once read
local numbers = {book = 0} -- by counter of a count or window: what orders admitted by this call have added

-- Return the code of the first of its limits that an order breaks, or nil. ADMIT of the order begins
-- after fields[before].
local function limit_broken(fields, before)
  local last = fields[before + ADMIT.LAST_LIMIT]
  for at = fields[before + ADMIT.FIRST_LIMIT], last, LIMIT_ROW.SIZE do
    local most = limits[at + LIMIT_ROW.MOST]
    if most then
      local kind, counter = limits[at + LIMIT_ROW.KIND], limits[at + LIMIT_ROW.COUNTER]
      local held = stored[at]
      if not held then
        if kind == KIND.SUM then held = tonumber(call('HGET', P .. 'totals', counter) or 0)
        elseif kind == KIND.COUNT then held = call('HLEN', P .. counter)
        elseif kind == KIND.LOSS then
          held = -tonumber(call('HGET', P .. 'day:' .. math.floor(now_ms / 86400000), counter) or 0)
        elseif kind == KIND.WINDOW then
          held = call('ZCOUNT', P .. counter, now_ms - LIMIT.WINDOW_MS + 1, '+inf')
        else error('admit: no kind of limit is ' .. kind, 0) end
        stored[at] = held
      end
      if kind == KIND.LOSS then
        if held >= most then return limits[at + LIMIT_ROW.CODE] end
      else
        held = held + ((kind == KIND.SUM and exposures or numbers)[counter] or 0)
        local add = limits[at + LIMIT_ROW.ADD] or fields[before + ADMIT.NOTIONAL]
        if held + add > most then return limits[at + LIMIT_ROW.CODE] end
      end
    end
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
    if reservation == RESERVATION.RESTING and sends then return STATUS.WAITS end
    if reservation then return 'POSITION_BUSY' end
    if position == '' then return 'NO_POSITION' end
    local opener = fields[before + ADMIT.OPENER]
    if not (sends and opener) then return nil end
    local strategy = cjson.decode(position).strategy_id -- of the signal that opened it
    return opener ~= (type(strategy) == 'string' and strategy or '') and 'NOT_THE_OPENER' or nil
  end
  if sends and trading_state == 'REDUCING' then return 'TRADING_REDUCING' end
  if reservation == RESERVATION.OPENING or reservation == RESERVATION.RESTING
    or reservation and not sends then return 'POSITION_BUSY' end
  if not sends then return nil end -- if it traded, it is part of whatever position there is
  if reservation or position ~= '' then return 'POSITION_EXISTS' end
  return limit_broken(fields, before)
end
