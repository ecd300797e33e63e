-- After a lost reply: what is leased to this worker that it does not know of.
-- ARGV: worker, lease ms, then the ids it knows
-- Returns deliveries, their tokens unchanged: a reply that is only late says the same
local worker = ARGV[1]
local expires = now() + tonumber(ARGV[2])
local known, missed = {}, {}
for n = 3, #ARGV do known[ARGV[n]] = true end
for _, id in ipairs(redis.call('ZRANGE', P .. 'leases', 0, -1)) do
  local entry = redis.call('HMGET', P .. 'entry:' .. id, 'worker', 'token', 'deliveries', 'signal',
    'group')
  if not known[id] and entry[1] == worker then
    local body = redis.call('XRANGE', SIGNALS, id, id)[1]
    redis.call('ZADD', P .. 'leases', expires, id)
    missed[#missed + 1] = delivery(id, body, tonumber(entry[2]), tonumber(entry[3]), entry[4],
      entry[5], 0)
  end
end
return missed
