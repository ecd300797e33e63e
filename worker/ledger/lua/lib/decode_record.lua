--- @include "keys"
-- Decode an execution record. Returns the record, nil if there is none; and what was stored, which
-- `park` also writes for an order whose admission was lost: it names no entry and is no record yet.
local function decode_record(raw)
  local record = raw and cmsgpack.unpack(raw) or nil
  return record and record[RECORD.ENTRY] ~= '' and record or nil, record
end
