#!lua flags=allow-oom
-- Write outcomes: events, position, reservation, record and acknowledgement in one step, and
-- hand the next entry of the group to the same worker.
-- ARGV: worker, lease ms, record retention ms, output length, replication id last seen, how
-- many arguments have the fields of all (items.py), these, then of each its record and the JSON of
-- every event
-- Returns {per item a status, epoch or false, which items handed an entry on, id and delivery of
-- each of these}: committed, duplicate, conflict or fenced; the epoch where there was an entry that
-- could be handed on
local worker, retention, limit = ARGV[1], tonumber(ARGV[3]), ARGV[4]
local OUTLIVES_MS = 60000 -- a record its signal, at least: clocks differ
local at = now()
local lease_ms = tonumber(ARGV[2])
local expires = at + lease_ms

local profits, grown = {}, {} -- by quote currency; the output streams that were written to
local book, settled = {}, {} -- by place: as it is stored, or false; the places to be written

-- Records by signal, false for none: read before the first write, for reading may fail.
local records = {}
local function recorded(signal)
  if records[signal] == nil then records[signal] = record_of(signal) or false end
  return records[signal]
end

-- What an earlier signal under the same id means for one that was never admitted.
local function verdict(signal, digest)
  local record = recorded(signal)
  if not record then return 'committed' end
  return record[DIGEST] == digest and 'duplicate' or 'conflict'
end

-- Whether this very call was made before and its reply was lost.
local function repeated(id, token, signal)
  local record = recorded(signal)
  return record and record[ENTRY] == id and record[BY] == worker and record[FENCE] == token
end

-- A dead letter: the entry's own fields, byte for byte, and what the worker says of it.
local function bury(id, about)
  local body = call('XRANGE', SIGNALS, id, id)[1]
  local fields = body and {unpack(body[2], 1, math.min(#body[2], 6000))} or {} -- a call's limit
  for _, part in ipairs(about) do fields[#fields + 1] = part end
  call('XADD', P .. 'dead', '*', unpack(fields))
end

-- Give the reservation back and write the position; amounts in millionths of the quote currency.
-- An admission of which nothing is known was lost with a primary, and its reservation with it; if
-- there is one, it is another signal's.
local function settle(admitted, place, position, quote, exposure, reserved, realized)
  local others = not admitted and book[place] and string.match(book[place], '^%a+ %S+') or ''
  if not admitted then expose(quote, reserved) end
  position = position or place_of(book[place])
  if others == '' then book[place] = position
  else book[place] = others .. (position ~= '' and ' ' or '') .. position end
  settled[#settled + 1] = place
  expose(quote, exposure)
  if realized ~= 0 then profits[quote] = (profits[quote] or 0) + realized end
end

local ended = cmsgpack.pack(at) -- the end of every record

-- An item's fields: the last of them says how many events there are; stream, type and id of each
-- follow.
local FIELDS = 17
local fields, at_records = unpacked(6)

local handing, handed = {}, {}

-- `first` is where the fields of item `number` begin, `at_record` where ARGV has its record.
local function commit(number, first, at_record)
  local id, token, signal, digest, reservation, place, position, quote, exposure, reserved, realized,
    dead, trace, duplicate, take_next, expires_at, events = unpack(fields, first, first + FIELDS - 1)
  if not held(id, worker, token) then
    return repeated(id, token, signal) and 'committed' or 'fenced'
  end
  local known = entries[id][SIGNAL]
  -- Whoever ends an admitted entry must know of it: two tasks of one worker may hold one grant.
  if known ~= '' and reservation == '' then return 'fenced' end
  local admitted = known ~= '' and known == signal
  local status = (duplicate or admitted) and 'committed' or verdict(signal, digest)
  if status == 'conflict' then return status end -- comes again as a dead letter
  if status == 'committed' and not duplicate then
    if reservation ~= '' then
      settle(admitted, place, position, quote, exposure, reserved, realized)
    end
    for n = 1, events do
      local head = first + FIELDS + 3 * (n - 1)
      local name, kind, event = fields[head], fields[head + 1], fields[head + 2]
      local stream = STREAM[name]
      grown[name] = true
      local data = ARGV[at_record + n]
      if trace == '' then
        call('XADD', stream, '*', 'type', kind, 'id', event, 'subject', signal, 'data', data)
      else
        call('XADD', stream, '*', 'type', kind, 'id', event, 'subject', signal, 'data', data,
          'traceparent', trace)
      end
    end
    if signal ~= '' then
      -- What may still trade must be known to have traded.
      local keep = math.max(retention, expires_at - at + OUTLIVES_MS)
      call('SET', P .. 'record:' .. signal, ARGV[at_record] .. ended, 'PX', keep)
      records[signal] = nil
    end
  end
  if dead then bury(id, dead) end
  local following = finish(id)
  if following then know({following}) end
  if not following or not entries[following] then return status end
  local got = take_next and grant(following, worker, expires, 1)
  if got then
    local count = #handing
    handing[count + 1], handed[2 * count + 1], handed[2 * count + 2] = number, following, got
  else offer(following) end
  return status
end

-- A stream that is none would stop the script half-way, its first events written.
call('XREAD', 'STREAMS', P .. 'orders', P .. 'positions', P .. 'system', P .. 'dead', '$', '$', '$', '$')

local firsts, ids, results = {}, {}, {}
local first, count = 1, 0
while fields[first] do
  count = count + 1
  firsts[count], ids[count] = first, fields[first]
  first = first + FIELDS + 3 * fields[first + FIELDS - 1]
end
know(ids)
local followers, places = {}, {}
for n = 1, count do
  local entry, first = entries[ids[n]], firsts[n]
  local signal, reservation = fields[first + 2], fields[first + 4]
  local place, position = fields[first + 5], fields[first + 6]
  local admitted = entry and entry[SIGNAL] == signal
  if not admitted then recorded(signal) end
  if reservation ~= '' and not (admitted and position) then places[#places + 1] = place end
  if entry and entry[NEXT] ~= '' then followers[#followers + 1] = entry[NEXT] end
end
local slots = each('HMGET', P .. 'book', places)
for n = 1, #places do book[places[n]] = slots[n] end
local told = #followers > 0 and epoch(at, lease_ms, ARGV[5])
know(followers) -- in one go, though not all of them may be wanted
local at_record = at_records
for n = 1, count do
  results[n] = commit(n, firsts[n], at_record)
  at_record = at_record + 1 + fields[firsts[n] + FIELDS - 1]
end
local held_places, empty = {}, {}
for n = 1, #settled do
  local place = settled[n]
  if book[place] == '' then empty[#empty + 1] = place
  else held_places[#held_places + 1], held_places[#held_places + 2] = place, book[place] end
end
each('HSET', P .. 'book', held_places)
each('HDEL', P .. 'book', empty)
flush()
for stream in pairs(grown) do trim(stream, limit) end
for quote, profit in pairs(profits) do earn(quote, profit, at) end
return {results, told, handing, handed}
