--- @include "output_streams"
-- Take back the first `count` events after fields[before], of those written last first.
local function take_events_back(fields, before, count)
  for n = count, 1, -1 do
    local stream = STREAM[fields[before + (n - 1) * EVENT.SIZE + EVENT.STREAM]]
    redis.pcall('XDEL', stream, call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1][1])
  end
end
