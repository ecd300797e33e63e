--- @include "output_streams"
local grown = {} -- the output streams that were written to

-- Write the events of one item of a commit unless `is_over` already, and its dead letter if it has one:
-- COMMIT and as many EVENT as it says after fields[before], their JSON after ARGV[at_record]. Only the
-- writing shows whether a stream takes another entry: if one does not, nothing of the item is written,
-- and the error is returned.
local function write_events(id, fields, before, at_record, is_over)
  local count, written, problem = is_over and 0 or fields[before + COMMIT.EVENTS], 0, false
  local first, tail = before + COMMIT.SIZE, fields[before + COMMIT.DEAD]
  local signal, traceparent = fields[before + COMMIT.SIGNAL], fields[before + COMMIT.TRACEPARENT]
  local at, added = first, nil
  for n = 1, count do
    local name, kind, event = fields[at + EVENT.STREAM], fields[at + EVENT.TYPE], fields[at + EVENT.ID]
    local stream, data = STREAM[name], ARGV[at_record + n]
    at = at + EVENT.SIZE
    if traceparent == '' then
      added = redis.pcall('XADD', stream, '*', 'type', kind, 'id', event, 'subject', signal, 'data', data)
    else
      added = redis.pcall('XADD', stream, '*', 'type', kind, 'id', event, 'subject', signal, 'data', data,
        'traceparent', traceparent)
    end
    if type(added) == 'table' then
      problem = added
      break
    end
    written, grown[name] = n, true
  end
  if tail and not problem then
    --- @include "bury"
    problem = bury(id, tail)
  end
  if problem then
    --- @include "take_events_back"
    take_events_back(fields, first, written)
  end
  return problem
end
