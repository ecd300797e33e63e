--- @include "delivery_row"
--- @include "lease"
-- Lease a known entry to `worker`, raising its token; its deliveries grow by `count_as`, 0 or 1.
-- Returns its delivery; nil if its body is gone and no signal was admitted under it, and with that the
-- fields of the body if it is not gone but too large, which only an earlier version let in.
local function grant(id, worker, expires, count_as, overdue_ms)
  local entry = entries[id]
  local body = call('XRANGE', SIGNALS, id, id)[1]
  if body then
    local _, is_too_large = entry_size(body[2])
    if is_too_large and entry[ENTRY.SIGNAL] == '' then return nil, body[2] end
    if is_too_large then body = nil end
  end
  if not body and entry[ENTRY.SIGNAL] == '' then return nil end
  entry[ENTRY.TOKEN] = entry[ENTRY.TOKEN] + 1
  entry[ENTRY.DELIVERIES] = entry[ENTRY.DELIVERIES] + count_as
  -- A lost group must not break a script half-way; the lease holds without it.
  if entry[ENTRY.OWNER] ~= worker then
    redis.pcall('XCLAIM', SIGNALS, GROUP, worker, 0, id, 'JUSTID')
  end
  entry[ENTRY.TEXT], entry[ENTRY.WORKER], entry[ENTRY.OWNER] = false, worker, worker
  changed[#changed + 1] = id
  lease(id, expires)
  return delivery_row(id, body, overdue_ms or 0)
end
