-- List the orders that are open at a simulated exchange, a part of its markets at a time.
-- KEYS[1] {account}:signals
-- ARGV[1] exchange
-- ARGV[2] symbol, '' for all
-- ARGV[3] number of the last market of the part before, 0 at first
-- Returns RESTING_PART: that number for the next part, 0 if this was the last one; the orders, RESTING
--   as msgpack; the time, ms
--- @include "resting_orders"
local MOST = 200
local exchange, orders = ARGV[1], {}

local function add(symbol)
  local all = call('HGETALL', market_key(exchange, symbol))
  for n = 2, #all, 2 do orders[#orders + 1] = all[n] end
end

if ARGV[2] ~= '' then
  add(ARGV[2])
  return RESTING_PART{LAST = 0, ORDERS = orders, NOW = now_ms}
end
local rows = call('ZRANGEBYSCORE', P .. 'resting-markets', '(' .. ARGV[3], '+inf', 'WITHSCORES',
  'LIMIT', 0, MOST)
local prefix = exchange .. ' '
for n = 1, #rows, 2 do
  if string.sub(rows[n], 1, #prefix) == prefix then add(string.sub(rows[n], #prefix + 1)) end
end
local last = #rows == 2 * MOST and tonumber(rows[#rows]) or 0
return RESTING_PART{LAST = last, ORDERS = orders, NOW = now_ms}
