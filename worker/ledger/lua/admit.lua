-- Check the account's limits for orders, reserve them and write their execution records.
-- KEYS[1] {account}:signals
-- ARGV[1] worker: consumer name
-- ARGV[2] parts: number of packed arguments that follow
-- ARGV[3...] these: every LIMIT_ROW that orders name, packed (items.py); then a number of parts and
--   these: ADMIT of every order, packed; then of every order the RECORD as far as the worker knows it
-- Returns ADMISSIONS; of each order a word or ADMISSION: admitted + position, refused + code, fenced,
--   duplicate, conflict; of a close, `waits` while the entry that rests for its position is cancelled,
--   and ended + that entry's signal where nothing of it had traded. An order admitted now and without a pause has its position alone, or if there
--   is none `admitted` alone
--- @include "clock"
--- @include "unpack_items"
--- @include "fence"
--- @include "decode_record"
--- @include "put_signal"
--- @include "account_limits"
--- @include "reserve"
--- @include "exchange_pause"
local worker = ARGV[1]
local at_orders
limits, at_orders = unpack_items(2)
if #limits % LIMIT_ROW.SIZE ~= 0 then
  error('admit: ' .. #limits .. ' values for rows of LIMIT_ROW.SIZE each', 0)
end
local fields, at_records = unpack_items(at_orders)
local count = #ARGV - at_records + 1
if #fields ~= ADMIT.SIZE * count then
  error('admit: ' .. #fields .. ' fields for ' .. count .. ' orders of ADMIT.SIZE each', 0)
end
local ids, position_keys, record_keys = {}, {}, {}
for n = 1, count do
  local before = ADMIT.SIZE * (n - 1)
  ids[n] = fields[before + ADMIT.ENTRY]
  position_keys[n] = fields[before + ADMIT.POSITION_KEY]
  record_keys[n] = P .. 'record:' .. fields[before + ADMIT.SIGNAL]
end
read_entries(ids)

read_book_rows(position_keys)
local stored, records, written = call('MGET', unpack(record_keys)), {}, {}
for n = 1, count do records[record_keys[n]] = stored[n] end
local resolved_tail = encode(RECORD.values{ADMITTED_AT = now_ms, UNRESOLVED_SINCE = 0})

local function admit(n)
  local before = ADMIT.SIZE * (n - 1)
  local id, token = ids[n], fields[before + ADMIT.TOKEN]
  if not passes_fence(id, worker, token) then return STATUS.FENCED end
  local record_key, exchange = record_keys[n], fields[before + ADMIT.EXCHANGE]
  local record, parked = decode_record(records[record_key])
  if record then
    if record[RECORD.DIGEST] ~= fields[before + ADMIT.DIGEST] then return STATUS.CONFLICT end
    if record[RECORD.ENTRY] ~= id or record[RECORD.STATE] ~= STATE.ADMITTED then
      return STATUS.DUPLICATE
    end
    -- Asked again: the first reply was lost. Written again, for WAIT only waits for writes.
    changed[#changed + 1] = id
    return ADMISSION{STATUS = 'admitted', ARGUMENT = record[RECORD.POSITION],
      PAUSE_MS = exchange_pause(exchange), ADMITTED_AT = record[RECORD.ADMITTED_AT]}
  end
  local question = fields[before + ADMIT.ONLY_LOOK] and '?' or '!'
  local refused = entries[id][ENTRY.REFUSED]
  if refused ~= '' then
    local asked, code = string.match(refused, '^(%d+.)(.+)$')
    if asked == token .. question then -- asked again
      return REFUSAL{STATUS = 'refused', CODE = code, DETAIL = ''}
    end
  end
  local position, reservation, holder = read_position(book[position_keys[n]])
  local code = rule_broken(fields, before, position, reservation)
  if code then
    --- @include "refuse_order"
    return refuse_order(code, id, token .. question, position_keys[n], reservation, holder,
      fields[before + ADMIT.SIGNAL])
  end
  reserve(fields, before, position)
  put_signal(id, fields[before + ADMIT.SIGNAL])
  local unresolved_since = parked and parked[RECORD.UNRESOLVED_SINCE] or 0
  records[record_key] = ARGV[at_records + n - 1]
    .. (unresolved_since == 0 and resolved_tail
      or encode(RECORD.values{ADMITTED_AT = now_ms, UNRESOLVED_SINCE = unresolved_since}))
    .. (position == '' and EMPTY or encode(RECORD.values{POSITION = position}))
  written[#written + 1], written[#written + 2] = record_key, records[record_key]
  local pause_ms = exchange_pause(exchange)
  if pause_ms == 0 then return position == '' and 'admitted' or position end
  return ADMISSION{STATUS = 'admitted', ARGUMENT = position, PAUSE_MS = pause_ms,
    ADMITTED_AT = now_ms}
end

local answers = {}
for n = 1, count do answers[n] = admit(n) end
if #written > 0 then call('MSET', unpack(written)) end
write_book_rows()
if admission_times then
  --- @include "write_admission_times"
  write_admission_times(admission_times)
end
do
  --- @include "flush"
end
return ADMISSIONS{NOW_MS = now_ms, ANSWERS = answers}
