-- Return the entries and turns leased to a worker by replies that were lost, as many as one reply holds. Tokens are
-- unchanged: a reply that is only late says the same.
-- KEYS[1] {account}:signals
-- ARGV[1] worker: consumer name
-- ARGV[2] lease: ms
-- ARGV[3] primary: replication id last seen, '' at start
-- ARGV[4...] ids of the entries and turns that the worker knows
-- Returns GRANTED
--- @include "delivery_row"
--- @include "lease"
--- @include "epoch"
--- @include "turn_row"
local worker, lease_ms = ARGV[1], tonumber(ARGV[2])
local expires = now_ms + lease_ms
local primary = epoch(lease_ms, ARGV[3])
local known, missed, more = {}, {}, 0
for n = 4, #ARGV do known[ARGV[n]] = true end
local ids = call('ZRANGE', P .. 'leases', 0, -1)
read_entries(ids)
for _, id in ipairs(ids) do
  if not known[id] and entries[id] and entries[id][ENTRY.WORKER] == worker then
    if replied >= LIMIT.REPLY_BYTES then
      more = 1
      break
    end
    local body = call('XRANGE', SIGNALS, id, id)[1]
    -- One that is too large, which only an earlier version let in, is left to the end of its lease.
    local _, is_too_large = entry_size(body and body[2] or {})
    if not is_too_large then
      lease(id, expires)
      missed[#missed + 1], missed[#missed + 2] = id, delivery_row(id, body, 0)
    end
  end
end
local turns, held = {}, call('ZRANGE', P .. 'turns', 0, -1)
read_entries(held)
for _, id in ipairs(held) do
  if not known[id] and entries[id] and entries[id][ENTRY.WORKER] == worker then
    if replied >= LIMIT.REPLY_BYTES then
      more = 1
      break
    end
    lease(id, expires)
    turns[#turns + 1], turns[#turns + 2] = id, turn_row(id, 0)
  end
end
do
  --- @include "flush"
end
return GRANTED{DELIVERIES = missed, TURNS = turns, EPOCH = primary, MORE = more}
