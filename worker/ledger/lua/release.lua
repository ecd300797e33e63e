#!lua flags=allow-oom
-- Give entries and turns back: at once, or after a hold, during which nobody gets them.
-- KEYS[1] {account}:signals
-- ARGV[1] worker: consumer name
-- ARGV[2...] RELEASED of every entry: `died` is 1 if the delivery counts as one that died
-- Returns how many were still held
--- @include "clock"
--- @include "fence"
--- @include "put_field"
--- @include "lease"
--- @include "offer"
--- @include "end_turn"
local worker, count, ids = ARGV[1], 0, {}
for before = 1, #ARGV - 1, RELEASED.SIZE do ids[#ids + 1] = ARGV[before + RELEASED.ENTRY] end
if #ARGV - 1 ~= RELEASED.SIZE * #ids then
  error('release: ' .. #ARGV - 1 .. ' arguments for entries of RELEASED.SIZE each', 0)
end
read_entries(ids)
for n, id in ipairs(ids) do
  local before = 1 + RELEASED.SIZE * (n - 1)
  local hold_ms = tonumber(ARGV[before + RELEASED.HOLD_MS])
  if passes_fence(id, worker, tonumber(ARGV[before + RELEASED.TOKEN])) then
    count = count + 1
    if string.byte(id) == 64 then end_turn(id, hold_ms) -- @: a turn
    else
      put_field(id, ENTRY.WORKER, '')
      if ARGV[before + RELEASED.DIED] ~= '1' then
        put_field(id, ENTRY.DELIVERIES, entries[id][ENTRY.DELIVERIES] - 1)
      end
      if hold_ms > 0 then lease(id, now_ms + hold_ms)
      else
        call('ZREM', P .. 'leases', id)
        offer(id)
      end
    end
  end
end
do
  --- @include "flush"
end
return count
