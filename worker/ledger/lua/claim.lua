-- Take work: expired leases, then released entries, then new ones.
-- KEYS[1] {account}:signals
-- ARGV[1] worker: consumer name
-- ARGV[2] room: how many entries to take at most
-- ARGV[3] lease: ms
-- ARGV[4] ceiling: how many entries may wait in groups before no new ones are read
-- ARGV[5] primary: replication id last seen, '' at start
-- Returns CLAIM; the tail is 0-0 where there is more
--- @include "grant"
--- @include "forget_entry"
--- @include "enter_groups"
--- @include "epoch"
--- @include "holds"
local worker, room, lease_ms, ceiling =
  ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local expires = now_ms + lease_ms
local pending = call('XPENDING', SIGNALS, GROUP)[1] -- no group, no claim: before any write
local granted, count, vanished = {}, 0, 0

local function hand_out(id, row)
  count = count + 1
  granted[2 * count - 1], granted[2 * count] = id, row
end

local function take(id, overdue_ms)
  while id do
    read_entries({id})
    if not entries[id] then return end
    local got = grant(id, worker, expires, 1, overdue_ms)
    if got then return hand_out(id, got) end
    vanished = vanished + 1
    id = forget_entry(id)
  end
end

local primary = epoch(lease_ms, ARGV[5])
local expired = call('ZRANGEBYSCORE', P .. 'leases', '-inf', now_ms, 'WITHSCORES', 'LIMIT', 0, room)
for n = 1, #expired, 2 do
  call('ZREM', P .. 'leases', expired[n])
  take(expired[n], now_ms - tonumber(expired[n + 1]))
end
while count < room do
  local id = call('LPOP', P .. 'released')
  if not id then break end
  read_entries({id})
  -- Nobody has taken it meanwhile, and it is not in the keeper's care again.
  if entries[id] and entries[id][ENTRY.WORKER] == ''
    and not call('ZSCORE', P .. 'unresolved', id) then
    take(id)
  end
end

local waiting = pending - call('ZCARD', P .. 'leases') - count
local want = math.min(room - count, ceiling - waiting)
local more, last = want <= 0 and 1 or 0, nil
if want > 0 then
  local read = call('XREADGROUP', 'GROUP', GROUP, worker, 'COUNT', want, 'STREAMS', SIGNALS, '>')
  local bodies, ids, new = read and read[1][2] or {}, {}, {}
  for n = 1, #bodies do ids[n] = bodies[n][1] end
  more, last = #ids == want and 1 or 0, ids[#ids] -- with fewer than wanted, the stream's last
  read_entries(ids)
  for n = 1, #ids do -- a recreated group repeats what is granted or waits
    if not entries[ids[n]] then new[#new + 1] = bodies[n] end
  end
  local heads = enter_groups(new, worker, worker)
  for n = 1, #heads do
    local id, fields = heads[n][1], heads[n][2]
    lease(id, expires)
    hand_out(id, first_delivery_row(fields))
  end
end
flush()
if more == 0 and not last then
  last = (call('XREVRANGE', SIGNALS, '+', '-', 'COUNT', 1)[1] or {})[1]
end
return CLAIM{DELIVERIES = granted, EPOCH = primary, TAIL = more == 0 and last or '0-0', MORE = more,
  VANISHED = vanished, HOLDS = holds()}
