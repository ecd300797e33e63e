-- Take work: expired leases, then released entries, then new ones, up to `room`.
-- ARGV: worker, room, lease ms, ceiling of waiting entries, replication id last seen ('' at start)
-- Returns {deliveries, tail id, more, data-loss time ms, ms until leases from before it have run
-- out, replication id, vanished}
local worker, room, ceiling = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[4])
local at = now()
local expires = at + tonumber(ARGV[3])
local pending = redis.call('XPENDING', SIGNALS, GROUP)[1] -- no group, no claim: before any write
local taken, vanished = {}, 0

local function take(id, overdue)
  while id do
    know({id})
    if not entries[id] then return end
    local got = grant(id, worker, expires, 1, overdue)
    if got then taken[#taken + 1] = got return end
    vanished = vanished + 1
    id = finish(id)
  end
end

-- A primary we have not seen may lack the last writes of the one before it.
local primary = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
local epoch = redis.call('HMGET', P .. 'epoch', 'primary', 'since')
local since = tonumber(epoch[2] or 0)
if epoch[1] ~= primary or since == 0 and ARGV[5] ~= '' and ARGV[5] ~= primary then
  since = (epoch[1] or ARGV[5] ~= '') and at or 0
  redis.call('HSET', P .. 'epoch', 'primary', primary, 'since', since)
end

local expired = redis.call('ZRANGEBYSCORE', P .. 'leases', '-inf', at, 'WITHSCORES', 'LIMIT', 0, room)
for n = 1, #expired, 2 do
  redis.call('ZREM', P .. 'leases', expired[n])
  take(expired[n], at - tonumber(expired[n + 1]))
end
while #taken < room do
  local id = redis.call('LPOP', P .. 'released')
  if not id then break end
  know({id})
  if entries[id] and entries[id][WORKER] == '' then take(id) end -- nobody has taken it meanwhile
end

local waiting = pending - redis.call('ZCARD', P .. 'leases') - #taken
local want = math.min(room - #taken, ceiling - waiting)
local more = want <= 0 and 1 or 0
if want > 0 then
  local read = redis.call('XREADGROUP', 'GROUP', GROUP, worker, 'COUNT', want, 'STREAMS', SIGNALS, '>')
  local ids, new = {}, {}
  for n, entry in ipairs(read and read[1][2] or {}) do ids[n] = entry[1] end
  more = #ids == want and 1 or 0
  know(ids)
  for n, id in ipairs(ids) do -- a recreated group repeats what we hold
    if not entries[id] then new[#new + 1] = {id, read[1][2][n][2], worker} end
  end
  enter(new, worker, function(id, fields)
    lease(id, expires)
    taken[#taken + 1] = {id, fields, 1, 1, '', false, entries[id][NAME], 0}
  end)
end
flush()
local tail = redis.call('XREVRANGE', SIGNALS, '+', '-', 'COUNT', 1)[1]
return {taken, tail and tail[1] or '0-0', more, since,
  since > 0 and math.max(since + tonumber(ARGV[3]) - at, 0) or 0, primary, vanished}
