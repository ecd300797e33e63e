-- After a lost reply: what is leased to this worker that it does not know of.
-- ARGV: worker, lease ms, then the ids it knows
-- Returns deliveries, their tokens unchanged: a reply that is only late says the same
local worker = ARGV[1]
local expires = now() + tonumber(ARGV[2])
local known, missed = {}, {}
for n = 3, #ARGV do known[ARGV[n]] = true end
for _, id in ipairs(redis.call('ZRANGE', P .. 'leases', 0, -1)) do
  if not known[id] and redis.call('HGET', P .. 'entry:' .. id, 'worker') == worker then
    local body = redis.call('XRANGE', SIGNALS, id, id)[1]
    redis.call('ZADD', P .. 'leases', expires, id)
    missed[#missed + 1] = delivery(id, body and body[2] or {}, 0)
  end
end
return missed
