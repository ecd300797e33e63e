-- After a lost reply: what is leased to this worker that it does not know of.
-- ARGV: worker, lease ms, then the ids it knows
-- Returns deliveries, their tokens unchanged: a reply that is only late says the same
local worker = ARGV[1]
local expires = now() + tonumber(ARGV[2])
local known, missed = {}, {}
for n = 3, #ARGV do known[ARGV[n]] = true end
local ids = redis.call('ZRANGE', P .. 'leases', 0, -1)
know(ids)
for _, id in ipairs(ids) do
  if not known[id] and entries[id] and entries[id][WORKER] == worker then
    lease(id, expires)
    missed[#missed + 1] = delivery(id, redis.call('XRANGE', SIGNALS, id, id)[1], 0)
  end
end
flush()
return missed
