#!lua flags=allow-oom
-- Write outcomes: events, position, reservation, record and acknowledgement in one step, and hand the
-- next entry of the group to the same worker.
-- KEYS[1] {account}:signals
-- ARGV[1] worker: consumer name
-- ARGV[2] lease: ms
-- ARGV[3] retention: ms for which a record is kept
-- ARGV[4] length: about how many entries an output stream keeps
-- ARGV[5] primary: replication id last seen, '' at start
-- ARGV[6] parts: number of packed field arguments that follow
-- ARGV[7...] these: COMMIT of every item and EVENT of each of its events, packed (items.py); then of
--   every item the RECORD as far as the worker knows it, and the JSON of each event
-- Returns COMMITTED: the status of each item, up to one whose events cannot be written, of which nothing
--   was (the first: an error); the numbers of the items that handed an entry on; id and delivery of each
--   of these entries; the epoch, or false where no entry could be handed on
--- @include "clock"
--- @include "outcome_items"
--- @include "fence"
--- @include "used_signal_ids"
--- @include "settle_position"
--- @include "write_events"
--- @include "trim_stream"
--- @include "forget_entry"
--- @include "holds"
local worker, lease_ms, retention_ms, length = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local OUTLIVES_MS = 60000 -- by how much a record outlives its signal, at least: clocks differ
local expires = now_ms + lease_ms
local fields, at_records = unpack_items(6)
local ended = encode(RECORD.rest{ENDED_AT = now_ms})
local handing, handed = {}, {} -- numbers of items that handed on; id and delivery of those entries
local primary, pass_on = false, nil -- EPOCH and `hand_on`, where an entry follows another

-- Write the outcome of item `number`: COMMIT after fields[before], its record in ARGV[at_record].
-- Returns the item's status; or nil and the error, nothing written.
local function commit(number, before, at_record)
  local id, token = fields[before + COMMIT.ENTRY], fields[before + COMMIT.TOKEN]
  local signal, reservation = fields[before + COMMIT.SIGNAL], fields[before + COMMIT.RESERVATION]
  if not passes_fence(id, worker, token) then
    return repeated(id, worker, token, signal) and STATUS.COMMITTED or STATUS.FENCED
  end
  local known = entries[id][ENTRY.SIGNAL]
  -- An item without a reservation must not end an entry that was admitted: two tasks of one worker
  -- may hold one grant.
  if known ~= '' and reservation == '' then return STATUS.FENCED end
  local admitted, duplicate = known ~= '' and known == signal, fields[before + COMMIT.DUPLICATE]
  local status = (duplicate or admitted) and STATUS.COMMITTED
    or judged(signal, fields[before + COMMIT.DIGEST])
  if status == STATUS.CONFLICT then return status end -- comes again as a dead letter
  local rests = fields[before + COMMIT.RESTS] -- admitted by a lost primary, it is admitted anew
  if rests and not (admitted and recorded(signal)) then return STATUS.FENCED end
  local is_over = status ~= STATUS.COMMITTED or duplicate
  local problem = write_events(id, fields, before, at_record, is_over)
  if problem then return nil, problem end
  if reservation ~= '' and not is_over then settle_position(admitted, fields, before) end
  if signal ~= '' and not rests and not is_over then
    -- Keep the record until the signal has expired, or a repetition would trade.
    local expires_ms = fields[before + COMMIT.EXPIRES_MS]
    local keep_ms = math.max(retention_ms, expires_ms - now_ms + OUTLIVES_MS)
    call('SET', P .. 'record:' .. signal, ARGV[at_record] .. ended, 'PX', keep_ms)
    records[signal] = nil
  end
  local following = forget_entry(id)
  local got = following and pass_on(following, worker, expires, fields[before + COMMIT.TAKE_NEXT])
  if got then
    local count = #handing
    handing[count + 1], handed[2 * count + 1], handed[2 * count + 2] = number, following, got
  end
  return status
end

local items, ids, records_at = outcome_items(fields, at_records)
read_entries(ids)
local followers, position_keys = {}, {}
for n = 1, #items do
  local entry, before = entries[ids[n]], items[n]
  local signal = fields[before + COMMIT.SIGNAL]
  local admitted = entry and entry[ENTRY.SIGNAL] == signal
  if not admitted or fields[before + COMMIT.RESTS] then recorded(signal) end
  if fields[before + COMMIT.RESERVATION] ~= ''
    and not (admitted and fields[before + COMMIT.POSITION]) then
    position_keys[#position_keys + 1] = fields[before + COMMIT.POSITION_KEY]
  end
  if entry and entry[ENTRY.FOLLOWING] ~= '' then followers[#followers + 1] = entry[ENTRY.FOLLOWING] end
end
read_book_rows(position_keys)
if #followers > 0 then
  --- @include "epoch"
  --- @include "hand_on"
  primary, pass_on = epoch(lease_ms, ARGV[5]), hand_on
  read_entries(followers) -- in one go, though not all of them may be wanted
  call('ZCARD', P .. 'lines') -- another type must not stop the script half-way
end
local statuses, last, problem = {}, 0, nil
while last < #items and not problem do
  last = last + 1
  statuses[last], problem = commit(last, items[last], records_at[last])
end
if problem and last == 1 then error(problem) end
write_book_rows()
do
  --- @include "flush"
end
for stream in pairs(grown) do trim(stream, length) end
for quote, profit in pairs(profits) do
  --- @include "book_profit"
  book_profit(quote, profit)
end
return COMMITTED{STATUSES = statuses, EPOCH = primary, HANDING = handing, HANDED = handed, HOLDS = holds()}
