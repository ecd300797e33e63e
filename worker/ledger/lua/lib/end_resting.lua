--- @include "put_field"
-- Have the entry that rests for a position cancelled, so that a close can follow. Returns `waits`.
local function end_resting(id, key, resting, signal)
  put_field(id, ENTRY.REFUSED, '~' .. resting)
  call('SET', P .. 'cancel:' .. resting, cjson.encode({code = 'CLOSED', by = signal}), 'NX', 'PX', 86400000)
  call('ZADD', P .. 'agenda', 'LT', now_ms, key)
  return STATUS.WAITS
end
