--- @include "indexes"
-- Write what was gathered. It is no function, for that would have to be given all of these.
for n = 1, #finished, 1000 do
  call('XACK', SIGNALS, GROUP, unpack(finished, n, math.min(n + 999, #finished)))
end
call_many('ZADD', P .. 'leases', leased)
call_many('ZADD', P .. 'turns', turned)
call_many('ZREM', P .. 'leases', finished)
call_many('ZREM', P .. 'unresolved', regranted)
call_many('HDEL', P .. 'verdicts', regranted)
local set, last, removed = {}, 0, finished
for n = 1, #changed do
  local id = changed[n]
  local entry = entries[id]
  if entry then
    local text = entry[ENTRY.TEXT] or encode(unpack(entry, ENTRY.GROUP, ENTRY.SIZE))
    set[last + 1], set[last + 2] = id, text
    last = last + 2
  end
  entries[id] = nil -- so that an id listed twice is written once
end
for n = 1, #moved do
  local group = moved[n]
  local tail = tails[group]
  if tail then
    set[last + 1], set[last + 2] = group, tail
    last = last + 2
  else removed[#removed + 1] = group end
end
call_many('HDEL', P .. 'entries', removed)
call_many('HSET', P .. 'entries', set)
for line in pairs(lines_changed) do
  if lines[line] > 0 then call('ZADD', P .. 'lines', lines[line], line)
  else call('ZREM', P .. 'lines', line) end
end
for quote, change in pairs(exposures) do
  --- @include "add_to_number"
  add_to_number(P .. 'totals', quote, change)
end
