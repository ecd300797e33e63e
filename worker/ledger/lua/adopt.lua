-- Let the keeper take unresolved orders that are due for another look-up.
-- KEYS[1] {account}:signals
-- ARGV[1] worker: consumer name
-- ARGV[2] lease: ms
-- ARGV[3] count: how many to take at most
-- ARGV[4] primary: replication id last seen, '' at start
-- Returns GRANTED
--- @include "grant"
--- @include "epoch"
local worker, lease_ms = ARGV[1], tonumber(ARGV[2])
local expires = now_ms + lease_ms
local primary = epoch(lease_ms, ARGV[4])
local granted = {}
local due = call('ZRANGEBYSCORE', P .. 'unresolved', '-inf', now_ms, 'LIMIT', 0, ARGV[3])
read_entries(due)
for _, id in ipairs(due) do
  if replied >= LIMIT.REPLY_BYTES then break end
  if entries[id] and not call('ZSCORE', P .. 'leases', id) then
    local got = grant(id, worker, expires, 0)
    if got then granted[#granted + 1], granted[#granted + 2] = id, got end
  end
  call('ZADD', P .. 'unresolved', expires, id)
end
do
  --- @include "flush"
end
return GRANTED{DELIVERIES = granted, TURNS = {}, EPOCH = primary, MORE = 0}
