#!lua flags=allow-oom
-- Give entries back: at once, or after a while in which an order of theirs may still arrive.
-- ARGV: worker, then id, token, hold ms and 1 if the delivery counts as one that died, of each
-- Returns how many were still held
local worker, count = ARGV[1], 0
local ids = {}
for n = 2, #ARGV, 4 do ids[#ids + 1] = ARGV[n] end
know(ids)
for n = 2, #ARGV, 4 do
  local id, hold = ARGV[n], tonumber(ARGV[n + 2])
  if held(id, worker, tonumber(ARGV[n + 1])) then
    count = count + 1
    put(id, WORKER, '')
    if ARGV[n + 3] ~= '1' then put(id, DELIVERIES, entries[id][DELIVERIES] - 1) end
    if hold > 0 then lease(id, now() + hold)
    else
      call('ZREM', P .. 'leases', id)
      offer(id)
    end
  end
end
flush()
return count
