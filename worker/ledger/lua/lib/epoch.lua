--- @include "clock"
-- Return EPOCH: which primary answers, and since when writes may be missing. A primary that was not
-- seen before may lack the last writes of the one before it. Every script that grants entries tells
-- the worker; `seen` is the replication id the worker saw last, '' at start.
local wary_until_ms = 0 -- until when new entries are read one by one, once EPOCH is known

local function epoch(lease_ms, seen)
  local primary = string.match(call('INFO', 'replication'), 'master_replid:(%x+)')
  local known = call('HMGET', P .. 'epoch', 'primary', 'since', 'wary')
  local since = tonumber(known[2] or 0)
  wary_until_ms = tonumber(known[3] or 0)
  if known[1] ~= primary or since == 0 and seen ~= '' and seen ~= primary then
    since = (known[1] or seen ~= '') and now_ms or 0
    call('HSET', P .. 'epoch', 'primary', primary, 'since', since)
  end
  local settled_in_ms = since > 0 and math.max(since + lease_ms - now_ms, 0) or 0
  return EPOCH{SINCE_MS = since, SETTLED_IN_MS = settled_in_ms, PRIMARY = primary}
end
