-- Take or keep a seat at an API key that only so many workers may use at once, or give it up.
-- KEYS[1] {account}:signals
-- ARGV[1] holder: consumer name and exchange
-- ARGV[2] the key's digest
-- ARGV[3] how many seats the key has
-- ARGV[4] term: ms, 0 to give the seat up
-- Returns SEAT: the seat, from 0, or -1 if there is none; then the holder is of seat 0
--- @include "clock"
local holder, seats, term_ms = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4])
local key = P .. 'key:' .. ARGV[2]
local mine, free, first = nil, nil, ''
for n = 0, seats - 1 do
  local ends, held_by = string.match(call('HGET', key, n) or '', '^(%d+) (.*)$')
  if held_by == holder then mine = mine or n
  elseif not ends or tonumber(ends) <= now_ms then free = free or n
  elseif n == 0 then first = held_by end
end
if term_ms == 0 then
  if mine then call('HDEL', key, mine) end
  return SEAT{NUMBER = -1, HOLDER = first}
end
local seat = mine or free
if not seat then return SEAT{NUMBER = -1, HOLDER = first} end
call('HSET', key, seat, string.format('%.0f %s', now_ms + term_ms, holder))
call('EXPIRE', key, math.ceil(term_ms / 1000))
return SEAT{NUMBER = seat, HOLDER = holder}
