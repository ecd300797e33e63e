--- @include "first_delivery_row"
--- @include "entry_size"
-- Return a granted entry as a reply has it: DELIVERY, or for a first delivery less
-- (first_delivery_row.lua).
local function delivery_row(id, body, overdue_ms)
  local entry = entries[id]
  local signal = entry[ENTRY.SIGNAL]
  local is_surplus = string.sub(entry[ENTRY.GROUP], 1, 2) == '!*'
  replied = replied + (body and entry_size(body[2]) or 0)
  if body and entry[ENTRY.TOKEN] == 1 and entry[ENTRY.DELIVERIES] == 1 and signal == ''
    and overdue_ms == 0 and not is_surplus then
    return first_delivery_row(body[2])
  end
  local record = signal ~= '' and call('GET', P .. 'record:' .. signal)
  local verdict = signal ~= '' and call('HGET', P .. 'verdicts', id)
  replied = replied + (record and #record or 0)
  return DELIVERY{TOKEN = entry[ENTRY.TOKEN], DELIVERIES = entry[ENTRY.DELIVERIES],
    SIGNAL = signal, RECORD = record, OVERDUE_MS = overdue_ms, VERDICT = verdict,
    IS_SURPLUS = is_surplus and 1 or 0, FIELDS = body and body[2] or {}}
end
