-- After a lost reply: what is leased to this worker that it does not know of.
-- ARGV: worker, lease ms, replication id last seen, then the ids it knows
-- Returns {id and delivery of each, epoch}; tokens are unchanged: a reply that is only late says the same
local worker, at, lease_ms = ARGV[1], now(), tonumber(ARGV[2])
local expires = at + lease_ms
local told = epoch(at, lease_ms, ARGV[3])
local known, missed = {}, {}
for n = 4, #ARGV do known[ARGV[n]] = true end
local ids = call('ZRANGE', P .. 'leases', 0, -1)
know(ids)
for _, id in ipairs(ids) do
  if not known[id] and entries[id] and entries[id][WORKER] == worker then
    lease(id, expires)
    missed[#missed + 1], missed[#missed + 2] = id, delivery(id, call('XRANGE', SIGNALS, id, id)[1], 0)
  end
end
flush()
return {missed, told}
