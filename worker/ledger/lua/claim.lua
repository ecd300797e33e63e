-- Take work: turns of positions that are due, expired leases, then released entries, then new ones.
-- KEYS[1] {account}:signals
-- ARGV[1] worker: consumer name
-- ARGV[2] room: how many entries to take at most
-- ARGV[3] lease: ms
-- ARGV[4] ceiling: how many entries may wait in all groups
-- ARGV[5] bound: how many openings may wait in one group, and how many others
-- ARGV[6] primary: replication id last seen, '' at start
-- ARGV[7] turns: how many to take at most
-- Returns CLAIM; the tail is 0-0 where there is more
--- @include "first_delivery_row"
--- @include "lease"
--- @include "enter_groups"
--- @include "read_new"
--- @include "epoch"
--- @include "holds"
local worker, room, lease_ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local ceiling, bound = tonumber(ARGV[4]), tonumber(ARGV[5])
local expires = now_ms + lease_ms
local pending = call('XPENDING', SIGNALS, GROUP)[1] -- no group, no claim: before any write
local granted, count, vanished = {}, 0, 0

local function hand_out(id, row)
  count = count + 1
  granted[2 * count - 1], granted[2 * count] = id, row
end

local primary = epoch(lease_ms, ARGV[6])
local turns, turn_room = {}, tonumber(ARGV[7])
-- Mostly no order rests at all, and one call shows that.
if turn_room > 0 and call('EXISTS', P .. 'agenda', P .. 'turns') > 0
  and (call('ZCOUNT', P .. 'agenda', '-inf', now_ms) > 0
    or call('ZCOUNT', P .. 'turns', '-inf', now_ms) > 0) then
  --- @include "take_turns"
  turns = take_turns(worker, expires, turn_room)
end
local expired = call('ZRANGEBYSCORE', P .. 'leases', '-inf', now_ms, 'WITHSCORES', 'LIMIT', 0, room)
if #expired > 0 or call('EXISTS', P .. 'released') == 1 then
  --- @include "grant"
  --- @include "oversize"
  --- @include "forget_entry"
  --- @include "leave_line"
  local function take(id, overdue_ms)
    while id do
      read_entries({id})
      if not entries[id] then return end
      local got, large = grant(id, worker, expires, 1, overdue_ms)
      if got then return hand_out(id, got) end
      if not large then vanished = vanished + 1
      elseif not bury_oversize(id, large, entries[id][ENTRY.DELIVERIES] + 1, worker) then
        return lease(id, expires)
      end
      id = forget_entry(id)
      if id then leave_line(id) end
    end
  end

  for n = 1, #expired, 2 do
    if replied >= LIMIT.REPLY_BYTES then break end
    call('ZREM', P .. 'leases', expired[n])
    take(expired[n], now_ms - tonumber(expired[n + 1]))
  end
  while count < room and replied < LIMIT.REPLY_BYTES do
    local id = call('LPOP', P .. 'released')
    if not id then break end
    read_entries({id})
    -- Nobody has taken it meanwhile, and it is not in the keeper's care again.
    if entries[id] and entries[id][ENTRY.WORKER] == ''
      and not call('ZSCORE', P .. 'unresolved', id) then
      take(id)
    end
  end
end

local waiting = pending - call('ZCARD', P .. 'leases') - count
local new, more, last = read_new(worker, room - count)
local ids, unknown = {}, {}
for n = 1, #new do ids[n] = new[n][1] end
read_entries(ids)
for n = 1, #new do -- a recreated group repeats what is granted or waits
  if not entries[ids[n]] then unknown[#unknown + 1] = new[n] end
end
local heads, surplus = enter_groups(unknown, worker, worker, bound, ceiling - waiting)
for n = 1, #heads do
  local id, fields = heads[n][1], heads[n][2]
  lease(id, expires)
  hand_out(id, not surplus[id] and first_delivery_row(fields) or DELIVERY{TOKEN = 1, DELIVERIES = 1,
    SIGNAL = '', RECORD = false, OVERDUE_MS = 0, VERDICT = false, IS_SURPLUS = 1, FIELDS = fields})
end
do
  --- @include "flush"
end
if #oversize > 0 then pcall(collectgarbage) end
if more == 0 and not last then -- XINFO GROUPS tells it without a body
  --- @include "fields_by_name"
  for _, info in ipairs(call('XINFO', 'GROUPS', SIGNALS)) do
    local group = fields_by_name(info)
    if group.name == GROUP then last = group['last-delivered-id'] end
  end
end
return CLAIM{DELIVERIES = granted, TURNS = turns, EPOCH = primary,
  TAIL = more == 0 and last or '0-0', MORE = more, VANISHED = vanished, OVERSIZE = oversize,
  HOLDS = holds()}
