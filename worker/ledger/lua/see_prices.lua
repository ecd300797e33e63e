-- Take the prices that a worker has seen in markets where orders rest, and learn of new such markets.
-- KEYS[1] {account}:signals
-- ARGV[1] number of the last market that the worker has learnt of, 0 at first
-- ARGV[2...] of a market each, msgpack: exchange, symbol, prices (see_prices)
-- Returns MARKETS: the number for the next call; '<exchange> <symbol>' of markets that the worker did
--   not know, at most 1000; of those named, the ones where nothing rests any more
--- @include "resting_orders"
local MOST = 1000
local gone, joined = {}, {}
for n = 2, #ARGV do
  local exchange, symbol, prices = unpack(cmsgpack.unpack(ARGV[n]))
  see_prices(exchange, symbol, prices)
  if call('EXISTS', market_key(exchange, symbol)) == 0 then
    gone[#gone + 1] = exchange .. ' ' .. symbol
    call('ZREM', P .. 'resting-markets', gone[#gone])
  end
end
local last = tonumber(call('GET', P .. 'resting-joined') or 0)
local rows = call('ZRANGEBYSCORE', P .. 'resting-markets', '(' .. ARGV[1], '+inf', 'WITHSCORES',
  'LIMIT', 0, MOST)
for n = 1, #rows, 2 do joined[#joined + 1] = rows[n] end
if #joined == MOST then last = tonumber(rows[#rows]) end
return MARKETS{LAST = last, JOINED = joined, GONE = gone}
