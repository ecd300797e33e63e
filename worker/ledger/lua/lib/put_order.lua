--- @include "clock"
-- Write the row of a live order, its indexes, and when its position is due. A time that is set already
-- is only ever brought forward: it may be a hint.
local function put_order(key, client_id, exchange_key, row, due_ms)
  call('SET', P .. 'order:' .. client_id, row)
  if exchange_key ~= '' then call('HSET', P .. 'exchange-ids', exchange_key, client_id) end
  local ids = call('HGET', P .. 'live', key) or ''
  if not string.find(ids, client_id, 1, true) then
    call('HSET', P .. 'live', key, ids == '' and client_id or ids .. ' ' .. client_id)
  end
  call('ZADD', P .. 'agenda', 'LT', now_ms + due_ms, key)
end
