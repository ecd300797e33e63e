-- Read what the invariants are checked against after a step.
-- ARGV: last ids seen of orders, positions, dead and system
-- Returns {orders, positions, dead, system, how many positions are open, how many are
-- reserved to open one, totals, last bell, last signal}
--- @include "keys"
--- @include "read_position"
local function after(stream, id) return redis.call('XRANGE', P .. stream, '(' .. id, '+') end
local function last(stream)
  local entry = redis.call('XREVRANGE', P .. stream, '+', '-', 'COUNT', 1)[1]
  return entry and entry[1] or '0-0'
end
local open, opening = 0, 0
for _, raw in ipairs(redis.call('HVALS', P .. 'book')) do
  local position, reservation = read_position(raw)
  if position ~= '' then open = open + 1 end
  local rests = reservation == RESERVATION.RESTING and position == ''
  if reservation == RESERVATION.OPENING or rests then opening = opening + 1 end
end
return {
  after('orders', ARGV[1]),
  after('positions', ARGV[2]),
  after('dead', ARGV[3]),
  after('system', ARGV[4]),
  open,
  opening,
  redis.call('HVALS', P .. 'totals'),
  last('bell'),
  last('signals'),
}
