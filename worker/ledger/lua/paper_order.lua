-- Look at an order of a simulated exchange, let it rest there, or cancel it.
-- KEYS[1] {account}:signals
-- ARGV[1] exchange
-- ARGV[2] symbol
-- ARGV[3] client order id
-- ARGV[4] what to do: look, rest, cancel
-- ARGV[5] the order that is to rest, RESTING as msgpack, if none is known by that id; '' otherwise
-- ARGV[6] prices of the market that the ledger has not seen, msgpack (see_prices)
-- Returns PAPER_ORDER: the order as msgpack, '' where there is none or no room for it; 1 if this call let it rest or
--   cancelled it, else 0; the time, ms
--- @include "resting_orders"
local MOST_MARKETS, MOST_IN_MARKET = 100000, 1000
local exchange, symbol, client_id = ARGV[1], ARGV[2], ARGV[3]
local key = market_key(exchange, symbol)
see_prices(exchange, symbol, cmsgpack.unpack(ARGV[6]))
local text = call('HGET', key, client_id) or call('GET', P .. 'rested:' .. client_id)
local is_changed = 0

-- Return true if another order may rest here.
local function has_room()
  if call('ZSCORE', P .. 'resting-markets', exchange .. ' ' .. symbol) then
    return call('HLEN', key) < MOST_IN_MARKET
  end
  return call('ZCARD', P .. 'resting-markets') < MOST_MARKETS
end

if not text and ARGV[4] == 'rest' and has_room() then
  local order = cmsgpack.unpack(ARGV[5])
  order[RESTING.SINCE] = now_ms
  text, is_changed = keep_resting(exchange, symbol, client_id, order), 1
elseif text and ARGV[4] == 'cancel' then
  local order = cmsgpack.unpack(text)
  local is_open = order[RESTING.STAYS] or order[RESTING.CONDITIONS][1]
  if is_open and order[RESTING.CANCELLED] == 0 then
    order[RESTING.CANCELLED] = now_ms
    text, is_changed = keep_resting(exchange, symbol, client_id, order), 1
  end
end
call('PEXPIRE', key, KEPT) -- what nobody asks for that long is given up
return PAPER_ORDER{ORDER = text or '', IS_CHANGED = is_changed, NOW = now_ms}
