--- @include "clock"
--- @include "fields_by_name"
-- The streams that are written under ids of the server's clock. One that was given an id ahead of it
-- goes on from there; one that was given the largest takes no more entries.
local STREAMS = {'signals', 'orders', 'positions', 'system', 'dead'}

-- Return by how many milliseconds the last id of a stream is ahead of the clock; 0 if it is not, or
-- if there is no such stream.
local function stream_ahead(name)
  if call('EXISTS', P .. name) == 0 then return 0 end
  local last = fields_by_name(call('XINFO', 'STREAM', P .. name))['last-generated-id']
  return math.max(tonumber(string.match(last, '^%d+')) - now_ms, 0)
end
