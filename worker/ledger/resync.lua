-- After a lost reply: what is leased to this worker that it does not know of.
-- ARGV: worker, lease ms, then the ids it knows
-- Returns deliveries
local worker = ARGV[1]
local expires = now() + tonumber(ARGV[2])
local known, missed = {}, {}
for n = 3, #ARGV do known[ARGV[n]] = true end
for _, id in ipairs(redis.call('ZRANGE', P .. 'leases', 0, -1)) do
  if not known[id] and redis.call('HGET', P .. 'entry:' .. id, 'worker') == worker then
    local got = grant(id, worker, expires, 0)
    if got then missed[#missed + 1] = got end
  end
end
return missed
