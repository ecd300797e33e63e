-- The keeper takes unresolved orders that are due for another look-up.
-- ARGV: worker, lease ms, how many, replication id last seen ('' at start)
-- Returns {id and delivery of each, epoch}
local worker, at, lease_ms = ARGV[1], now(), tonumber(ARGV[2])
local expires = at + lease_ms
local told = epoch(at, lease_ms, ARGV[4])
local taken = {}
local due = call('ZRANGEBYSCORE', P .. 'unresolved', '-inf', at, 'LIMIT', 0, ARGV[3])
know(due)
for _, id in ipairs(due) do
  if entries[id] and not call('ZSCORE', P .. 'leases', id) then
    local got = grant(id, worker, expires, 0)
    if got then taken[#taken + 1], taken[#taken + 2] = id, got end
  end
  call('ZADD', P .. 'unresolved', expires, id)
end
flush()
return {taken, told}
