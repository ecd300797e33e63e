#!lua flags=allow-oom
-- Give entries back. One with nothing in doubt is offered at once and the delivery not counted;
-- one whose order may be on its way keeps its lease until that has run out.
-- ARGV: worker, then id, token and hold ms of each
-- Returns how many were still held
local worker, count = ARGV[1], 0
for n = 2, #ARGV, 3 do
  local id, hold = ARGV[n], tonumber(ARGV[n + 2])
  if held(id, worker, tonumber(ARGV[n + 1])) then
    count = count + 1
    redis.call('HSET', P .. 'entry:' .. id, 'worker', '')
    if hold > 0 then redis.call('ZADD', P .. 'leases', now() + hold, id)
    else
      redis.call('ZREM', P .. 'leases', id)
      redis.call('HINCRBY', P .. 'entry:' .. id, 'deliveries', -1)
      offer(id)
    end
  end
end
return count
