--- @include "clock"
--- @include "indexes"
-- End a turn; its position is due again in `due_ms`, if that is given, or sooner if a hint said so.
local function end_turn(id, due_ms)
  call('HDEL', P .. 'entries', id)
  call('ZREM', P .. 'turns', id)
  entries[id] = nil
  if due_ms then call('ZADD', P .. 'agenda', 'LT', now_ms + due_ms, string.sub(id, 2)) end
end
