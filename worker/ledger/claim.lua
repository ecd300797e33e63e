-- Take work: expired leases, then released entries, then new ones, up to `room`.
-- ARGV: worker, room, lease ms, ceiling of waiting entries, replication id last seen ('' at start)
-- Returns {deliveries, tail id, more, data-loss time ms, ms until leases from before it have run
-- out, replication id, vanished}
local worker, room, ceiling = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[4])
local at = now()
local expires = at + tonumber(ARGV[3])
local taken, vanished = {}, 0

local function take(id, overdue)
  while id do
    local got = grant(id, worker, expires, 1, overdue)
    if got then taken[#taken + 1] = got return end
    vanished = vanished + 1
    id = finish(id, redis.call('HGET', P .. 'entry:' .. id, 'group'))
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
  if redis.call('EXISTS', P .. 'entry:' .. id) == 1 then take(id) end
end

local waiting = redis.call('XPENDING', SIGNALS, GROUP)[1] - redis.call('ZCARD', P .. 'leases')
local want = math.min(room - #taken, ceiling - waiting)
local more = want <= 0 and 1 or 0
if want > 0 then
  local read = redis.call('XREADGROUP', 'GROUP', GROUP, worker, 'COUNT', want, 'STREAMS', SIGNALS, '>')
  local entries = read and read[1][2] or {}
  more = #entries == want and 1 or 0
  for _, entry in ipairs(entries) do
    local id, fields = entry[1], entry[2]
    if redis.call('EXISTS', P .. 'entry:' .. id) == 0 then -- a recreated group repeats what we hold
      local name = enter(id, fields, worker, worker)
      if name then
        redis.call('ZADD', P .. 'leases', expires, id)
        taken[#taken + 1] = {id, fields, 1, 1, '', {}, name, 0}
      end
    end
  end
end
flush()
local tail = redis.call('XREVRANGE', SIGNALS, '+', '-', 'COUNT', 1)[1]
return {taken, tail and tail[1] or '0-0', more, since,
  since > 0 and math.max(since + tonumber(ARGV[3]) - at, 0) or 0, primary, vanished}
