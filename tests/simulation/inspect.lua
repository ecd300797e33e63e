-- What the invariants need to see after a step; reads only.
-- ARGV: last ids seen of orders, positions, dead and system
-- Returns {orders, positions, dead, system, open positions, reserved ones, totals, last bell,
-- last signal}
local function after(stream, id) return redis.call('XRANGE', P .. stream, '(' .. id, '+') end
local function last(stream)
  local entry = redis.call('XREVRANGE', P .. stream, '+', '-', 'COUNT', 1)[1]
  return entry and entry[1] or '0-0'
end
return {
  after('orders', ARGV[1]),
  after('positions', ARGV[2]),
  after('dead', ARGV[3]),
  after('system', ARGV[4]),
  redis.call('HKEYS', P .. 'book'),
  redis.call('HKEYS', P .. 'opening'),
  redis.call('HVALS', P .. 'totals'),
  last('bell'),
  last('signals'),
}
