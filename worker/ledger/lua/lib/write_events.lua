--- @include "output_streams"
local grown = {} -- the output streams that were written to

-- Take back the first `count` events after fields[before], of those written last first.
local function take_events_back(fields, before, count)
  for n = count, 1, -1 do
    local stream = STREAM[fields[before + (n - 1) * EVENT.SIZE + EVENT.STREAM]]
    redis.pcall('XDEL', stream, call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1][1])
  end
end

-- Write the events of one item of a commit unless `is_over` already, and its dead letter if it has one:
-- COMMIT and as many EVENT as it says after fields[before], their JSON after ARGV[at_record]. Only the
-- writing shows whether a stream takes another entry: if one does not, nothing of the item is written,
-- and the error is returned.
local function write_events(id, fields, before, at_record, is_over)
  local count, added = is_over and 0 or fields[before + COMMIT.EVENTS], nil
  local first, tail = before + COMMIT.SIZE, fields[before + COMMIT.DEAD]
  local signal, traceparent = fields[before + COMMIT.SIGNAL], fields[before + COMMIT.TRACEPARENT]
  local at = first
  for n = 1, count do
    local name, kind, event = fields[at + EVENT.STREAM], fields[at + EVENT.TYPE], fields[at + EVENT.ID]
    local stream, data = STREAM[name], ARGV[at_record + n]
    at, grown[name] = at + EVENT.SIZE, true
    if traceparent == '' then
      added = redis.pcall('XADD', stream, '*', 'type', kind, 'id', event, 'subject', signal, 'data', data)
    else
      added = redis.pcall('XADD', stream, '*', 'type', kind, 'id', event, 'subject', signal, 'data', data,
        'traceparent', traceparent)
    end
    if type(added) == 'table' then
      take_events_back(fields, first, n - 1)
      return added
    end
  end
  if tail then
    --- @include "bury"
    added = bury(id, tail)
    if added then
      take_events_back(fields, first, count)
      return added
    end
  end
end
