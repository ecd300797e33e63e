-- Keep house: register orphaned entries, trim what every group has acknowledged, drop the dead.
-- ARGV: lease ms, signal retention ms
-- Returns {orphans, trimmed, consumers removed}
local at = now()
local orphans, removed = 0, 0
local pending = call('XPENDING', SIGNALS, GROUP, 'IDLE', ARGV[1], '-', '+', 1000)
local ids = {}
for n, one in ipairs(pending) do ids[n] = one[1] end
know(ids)
local heads, gone = {}, {}
for n, id in ipairs(ids) do
  if not entries[id] then
    local body = call('XRANGE', SIGNALS, id, id)[1]
    orphans = orphans + 1
    if not body then gone[#gone + 1] = id
    elseif enter({body}, pending[n][2], '')[1] then heads[#heads + 1] = id end
  end
end
for _, id in ipairs(heads) do offer(id) end
for _, id in ipairs(gone) do call('XACK', SIGNALS, GROUP, id) end
flush()

-- An id as two numbers, so that ids compare.
local function before(a, b)
  local am, as = string.match(a, '(%d+)-(%d+)')
  local bm, bs = string.match(b, '(%d+)-(%d+)')
  if am ~= bm then return tonumber(am) < tonumber(bm) end
  return tonumber(as) < tonumber(bs)
end
local floor = string.format('%.0f-0', math.max(at - tonumber(ARGV[2]), 0))
for _, info in ipairs(call('XINFO', 'GROUPS', SIGNALS)) do
  local group = {}
  for n = 1, #info, 2 do group[info[n]] = info[n + 1] end
  local oldest = call('XPENDING', SIGNALS, group.name)[2] or group['last-delivered-id']
  if before(oldest, floor) then floor = oldest end
end
local trimmed = call('XTRIM', SIGNALS, 'MINID', '~', floor)

local workers = call('HGETALL', P .. 'workers')
local alive = {}
for n = 1, #workers, 2 do
  if at - tonumber(string.match(workers[n + 1], '^%d+')) < 60000 then alive[workers[n]] = true
  else call('HDEL', P .. 'workers', workers[n]) end
end
for _, info in ipairs(call('XINFO', 'CONSUMERS', SIGNALS, GROUP)) do
  local consumer = {}
  for n = 1, #info, 2 do consumer[info[n]] = info[n + 1] end
  if consumer.pending == 0 and consumer.idle > 60000 and not alive[consumer.name] then
    call('XGROUP', 'DELCONSUMER', SIGNALS, GROUP, consumer.name)
    removed = removed + 1
  end
end
return {orphans, trimmed, removed}
