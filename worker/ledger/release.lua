#!lua flags=allow-oom
-- Give entries back: at once, or after a while in which an order of theirs may still arrive.
-- ARGV: worker, then id, token, hold ms and 1 if the delivery counts as one that died, of each
-- Returns how many were still held
local worker, count = ARGV[1], 0
for n = 2, #ARGV, 4 do
  local id, hold = ARGV[n], tonumber(ARGV[n + 2])
  if held(id, worker, tonumber(ARGV[n + 1])) then
    count = count + 1
    redis.call('HSET', P .. 'entry:' .. id, 'worker', '')
    if ARGV[n + 3] ~= '1' then redis.call('HINCRBY', P .. 'entry:' .. id, 'deliveries', -1) end
    if hold > 0 then redis.call('ZADD', P .. 'leases', now() + hold, id)
    else
      redis.call('ZREM', P .. 'leases', id)
      offer(id)
    end
  end
end
return count
