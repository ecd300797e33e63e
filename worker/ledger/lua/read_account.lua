-- Return the account in numbers.
-- KEYS[1] {account}:signals
-- Returns ACCOUNT
--- @include "clock"
--- @include "read_position"
--- @include "fields_by_name"
--- @include "stream_ahead"
local lag, delivered = -1, '0-0'
for _, info in ipairs(call('XINFO', 'GROUPS', SIGNALS)) do
  local group = fields_by_name(info)
  if group.name == GROUP then lag, delivered = group.lag or lag, group['last-delivered-id'] end
end
local open = 0
local book = call('HGETALL', P .. 'book')
for n = 2, #book, 2 do
  if read_position(book[n]) ~= '' then open = open + 1 end
end
local fullest = call('ZRANGE', P .. 'lines', 0, 0, 'REV', 'WITHSCORES')
local pending = call('XPENDING', SIGNALS, GROUP)
local oldest = pending[2] and now_ms - tonumber(string.match(pending[2], '^%d+')) or 0
local ahead = {}
for _, name in ipairs(STREAMS) do
  local ms
  if name == 'signals' and lag ~= 0 then -- XINFO STREAM would read an entry nobody has bounded yet
    ms = math.max(tonumber(string.match(delivered, '^%d+')) - now_ms, 0)
  else
    ms = stream_ahead(name)
  end
  ahead[#ahead + 1], ahead[#ahead + 2] = name, string.format('%.0f', ms)
end
return ACCOUNT{
  NOW_MS = now_ms,
  EXPOSURE = call('HGETALL', P .. 'totals'),
  REALIZED = call('HGETALL', P .. 'realized'),
  OPEN_POSITIONS = open,
  UNRESOLVED = call('ZCARD', P .. 'unresolved'),
  DEAD_LETTERS = call('XLEN', P .. 'dead'),
  LAG = lag,
  PENDING = pending[1],
  OLDEST_PENDING_MS = math.max(oldest, 0),
  LEASES = call('ZCARD', P .. 'leases'),
  AHEAD = ahead,
  FULLEST_GROUP = (string.gsub(fullest[1] or '', '^%-?:', '')),
  FULLEST_WAITING = tonumber(fullest[2] or 0)
}
