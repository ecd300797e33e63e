--- @include "output_streams"
-- Append one event to an output stream; `write_events` writes those of a commit.
local function append_event(stream, kind, id, data, subject)
  call('XADD', STREAM[stream], '*', 'type', kind, 'id', id, 'subject', subject, 'data', data)
end
