--- @include "keys"
-- The records under the signal ids of a commit's items. They are read before the first write, for
-- reading may fail.
local records = {} -- by signal: RECORD, or false for none

local function recorded(signal)
  if records[signal] == nil then
    --- @include "find_record"
    records[signal] = find_record(signal) or false
  end
  return records[signal]
end

-- Return the status of an item never admitted, by the record under its signal id.
local function judged(signal, digest)
  local record = recorded(signal)
  if not record then return STATUS.COMMITTED end
  return record[RECORD.DIGEST] == digest and STATUS.DUPLICATE or STATUS.CONFLICT
end

-- Return whether this very item was committed before and the reply was lost.
local function repeated(id, worker, token, signal)
  local record = recorded(signal)
  return record and record[RECORD.ENTRY] == id and record[RECORD.WORKER] == worker
    and record[RECORD.TOKEN] == token
end
