-- Return what people may have changed since the keeper looked last: the trading state, events, and how
-- much was removed from two streams.
-- KEYS[1] {account}:signals
-- ARGV[1...] marks to note: name and value of each field of `watched`, none at first
-- Returns WATCHED: the four fields of `control`; the marks; of `system` and of `dead` STREAM_COUNTS, {}
--   where there is no stream; entry id, type, id and data of the next events of `system` after the
--   mark `event`. What people have written is cut at 4096 bytes
--- @include "keys"
--- @include "fields_by_name"
local MOST, LONGEST = 16, 4096
local LARGEST = '18446744073709551615-18446744073709551615' -- nothing comes after it
if #ARGV > 0 then call('HSET', P .. 'watched', unpack(ARGV)) end

local function counts(name)
  if call('EXISTS', P .. name) == 0 then return {} end
  local info = fields_by_name(call('XINFO', 'STREAM', P .. name))
  return STREAM_COUNTS{ADDED = info['entries-added'], LENGTH = info.length,
    LAST = info['last-generated-id']}
end

local marks, events = call('HGETALL', P .. 'watched'), {}
local after = fields_by_name(marks).event
if after and after ~= LARGEST then
  for _, row in ipairs(call('XRANGE', P .. 'system', '(' .. after, '+', 'COUNT', MOST)) do
    local fields = fields_by_name(row[2])
    for _, part in ipairs({row[1], fields.type or '', fields.id or '', fields.data or ''}) do
      events[#events + 1] = string.sub(part, 1, LONGEST)
    end
  end
end
local control = {}
local names = {'trading_state', 'reason', 'actor', 'at'} -- anybody who may set it may add others
for n, value in ipairs(call('HMGET', P .. 'control', unpack(names))) do
  if value then
    control[#control + 1] = names[n]
    control[#control + 1] = string.sub(value, 1, LONGEST)
  end
end
return WATCHED{CONTROL = control, MARKS = marks, SYSTEM = counts('system'),
  DEAD = counts('dead'), EVENTS = events}
