--- @include "entry_size"
-- Return a granted turn as a reply has it: TURN. Its id is `@` and the position key.
local function turn_row(id, overdue_ms)
  local key, turn = string.sub(id, 2), entries[id]
  local orders, records, cancels = {}, {}, {}
  for client_id in string.gmatch(call('HGET', P .. 'live', key) or '', '%S+') do
    local row = call('GET', P .. 'order:' .. client_id)
    if row then
      local n, signal = #orders + 1, cjson.decode(row)[ORDER.SIGNAL]
      orders[n], records[n] = row, call('GET', P .. 'record:' .. signal)
      cancels[n] = call('GET', P .. 'cancel:' .. signal)
      replied = replied + #row + #(records[n] or '')
    end
  end
  return TURN{TOKEN = turn[ENTRY.TOKEN], DELIVERIES = turn[ENTRY.DELIVERIES],
    OVERDUE_MS = overdue_ms, BOOK = call('HGET', P .. 'book', key) or '', ORDERS = orders,
    RECORDS = records, CANCELS = cancels}
end
