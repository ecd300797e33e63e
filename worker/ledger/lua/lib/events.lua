--- @include "streams"
-- Write one event by itself; those of an outcome are written by `write_events`.
local function append(stream, kind, id, data, subject)
  call('XADD', STREAM[stream], '*', 'type', kind, 'id', id, 'subject', subject, 'data', data)
end
