--- @include "keys"
-- Forget the row of an order that is over, and its indexes. Returns whether its position has others.
local function forget_order(key, client_id, exchange_key)
  call('DEL', P .. 'order:' .. client_id)
  if exchange_key ~= '' then call('HDEL', P .. 'exchange-ids', exchange_key) end
  local others = {}
  for id in string.gmatch(call('HGET', P .. 'live', key) or '', '%S+') do
    if id ~= client_id then others[#others + 1] = id end
  end
  if #others > 0 then call('HSET', P .. 'live', key, table.concat(others, ' '))
  else call('HDEL', P .. 'live', key) end
  return #others > 0
end
