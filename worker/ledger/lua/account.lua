-- What the account looks like now, in numbers.
-- Returns {now ms, {quote, exposure ...}, {quote, realised ...}, open positions, unresolved,
-- dead letters, lag or -1, pending, age of the oldest pending entry ms, leases}
local at = now()
local lag = -1
for _, info in ipairs(call('XINFO', 'GROUPS', SIGNALS)) do
  local group = {}
  for n = 1, #info, 2 do group[info[n]] = info[n + 1] end
  if group.name == GROUP and group.lag then lag = group.lag end
end
local held_places = 0
local book = call('HGETALL', P .. 'book')
for n = 2, #book, 2 do
  if place_of(book[n]) ~= '' then held_places = held_places + 1 end
end
local pending = call('XPENDING', SIGNALS, GROUP)
local oldest = pending[2] and at - tonumber(string.match(pending[2], '^%d+')) or 0
return {
  at,
  call('HGETALL', P .. 'totals'),
  call('HGETALL', P .. 'realized'),
  held_places,
  call('ZCARD', P .. 'unresolved'),
  call('XLEN', P .. 'dead'),
  lag,
  pending[1],
  math.max(oldest, 0),
  call('ZCARD', P .. 'leases'),
}
