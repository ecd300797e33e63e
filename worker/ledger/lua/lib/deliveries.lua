--- @include "first_delivery"
-- Return what a reply says of a granted entry: DELIVERY, or less of a first one (first_delivery.lua).
local function delivery(id, body, overdue_ms)
  local entry = entries[id]
  local signal = entry[ENTRY.SIGNAL]
  if body and entry[ENTRY.TOKEN] == 1 and entry[ENTRY.DELIVERIES] == 1 and signal == ''
    and overdue_ms == 0 then
    return first_delivery(body[2])
  end
  local record = signal ~= '' and call('GET', P .. 'record:' .. signal)
  local verdict = signal ~= '' and call('HGET', P .. 'verdicts', id)
  return DELIVERY{TOKEN = entry[ENTRY.TOKEN], DELIVERIES = entry[ENTRY.DELIVERIES],
    SIGNAL = signal, RECORD = record, OVERDUE_MS = overdue_ms, VERDICT = verdict,
    FIELDS = body and body[2] or {}}
end
