--- @include "output_streams"
-- A key of another type, or a stream that takes no more ids, would stop the script half-way, its first
-- events written.
local LAST = '18446744073709551615-18446744073709551614' -- but one
if call('XREAD', 'STREAMS', P .. 'orders', P .. 'positions', P .. 'system', P .. 'dead',
  LAST, LAST, LAST, LAST) then
  error('a stream has exhausted the last possible ID', 0)
end

local grown = {} -- the output streams that were written to

-- Write the events of one item of a commit: `fields` has an EVENT for each after index `before`, ARGV
-- its JSON after index `at_record`.
local function write_events(fields, before, count, at_record, signal, traceparent)
  for n = 1, count do
    local name, kind, id = fields[before + EVENT.STREAM], fields[before + EVENT.TYPE],
      fields[before + EVENT.ID]
    local stream, data = STREAM[name], ARGV[at_record + n]
    before, grown[name] = before + EVENT.SIZE, true
    if traceparent == '' then
      call('XADD', stream, '*', 'type', kind, 'id', id, 'subject', signal, 'data', data)
    else
      call('XADD', stream, '*', 'type', kind, 'id', id, 'subject', signal, 'data', data,
        'traceparent', traceparent)
    end
  end
end
