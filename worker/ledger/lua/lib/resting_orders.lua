--- @include "clock"
-- Orders that rest at a simulated exchange. One is RESTING, msgpack: while a price can change it, or its
-- rest is open, in the hash of its market; afterwards under its own key, for KEPT ms.
local KEPT = 604800000

local function market_key(exchange, symbol) return P .. 'resting:' .. exchange .. ':' .. symbol end

-- Write an order where it belongs now; returns its text.
local function keep_resting(exchange, symbol, client_id, order)
  local key, text = market_key(exchange, symbol), cmsgpack.pack(order)
  local market = exchange .. ' ' .. symbol
  if order[RESTING.CANCELLED] == 0 and (order[RESTING.STAYS] or order[RESTING.CONDITIONS][1]) then
    call('HSET', key, client_id, text)
    if not call('ZSCORE', P .. 'resting-markets', market) then
      local last = tonumber(call('GET', P .. 'resting-joined') or 0)
      local number = math.max(last + 1, now_ms) -- also greater than any that a lost server has given
      call('SET', P .. 'resting-joined', number)
      call('ZADD', P .. 'resting-markets', number, market)
    end
    return text
  end
  call('SET', P .. 'rested:' .. client_id, text, 'PX', KEPT)
  if call('HDEL', key, client_id) == 1 and call('HLEN', key) == 0 then
    call('ZREM', P .. 'resting-markets', market)
  end
  return text
end

-- Let an order meet a price at a time; returns true if that price matters to it.
local function meets(order, at, price)
  local conditions, touches = order[RESTING.CONDITIONS], order[RESTING.TOUCHES]
  local last = touches[#touches]
  if at < (last and last[1] or order[RESTING.SINCE]) then return false end
  local number, is_met = tonumber(price), false
  while conditions[1] do
    local rises, level = conditions[1][1], tonumber(conditions[1][2])
    if rises and number < level or not rises and number > level then break end
    table.remove(conditions, 1)
    is_met = true
  end
  if not is_met then return false end
  if order[RESTING.IMMEDIATE] then order[RESTING.CONDITIONS] = {} end -- now or never
  touches[#touches + 1] = {at, price}
  return true
end

-- Let the orders of a market meet prices, the oldest first: of each the time by this server's clock, ms,
-- or how long ago, as a number that is not positive; the price for buys and the one for sells.
local function see_prices(exchange, symbol, prices)
  if #prices == 0 then return end
  local all = call('HGETALL', market_key(exchange, symbol))
  for n = 1, #all, 2 do
    local order, has_met = cmsgpack.unpack(all[n + 1]), false
    for _, seen in ipairs(prices) do
      local at = seen[1] > 0 and seen[1] or now_ms + seen[1]
      has_met = meets(order, at, order[RESTING.BUYS] and seen[2] or seen[3]) or has_met
    end
    if has_met then keep_resting(exchange, symbol, all[n], order) end
  end
end
