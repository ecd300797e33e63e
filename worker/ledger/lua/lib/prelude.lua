-- Shared by every script: names, the clock, the fence, entries and their groups.
-- A script reads what it needs for all its items at once, before its first write where reading may
-- fail; what changes in the indexes is gathered and written at its end (`flush`).
-- KEYS[1] is always {account}:signals; every other key shares its hash tag and so its slot.
local SIGNALS, GROUP = KEYS[1], 'execution'
local P = string.sub(SIGNALS, 1, -8)
local STREAM = {orders = P .. 'orders', positions = P .. 'positions', system = P .. 'system'}
local call, find, match = redis.call, string.find, string.match -- looked up once

-- A slot that is being moved answers for a missing key with an error: stop before the first write.
call('EXISTS', P .. 'none')

local function now()
  local time = call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Call with many arguments, a thousand at a time: no call takes more than some 8,000.
local function each(command, key, list)
  if #list <= 1000 then return #list > 0 and call(command, key, unpack(list)) or {} end
  local replies = {}
  for n = 1, #list, 1000 do
    local reply = call(command, key, unpack(list, n, math.min(n + 999, #list)))
    if type(reply) == 'table' then for m = 1, #reply do replies[#replies + 1] = reply[m] end end
  end
  return replies
end

-- Values that came packed one behind the other (items.py), in as many arguments as ARGV[at] says: a
-- script can take only so many apart at once. Returns them, and where the next argument is.
local function unpacked(at)
  local last = at + ARGV[at]
  local values = {cmsgpack.unpack(ARGV[at + 1])}
  for part = at + 2, last do
    for _, value in ipairs({cmsgpack.unpack(ARGV[part])}) do values[#values + 1] = value end
  end
  return values, last + 1
end

-- The fields of an entry, each a string but for the two numbers; '' where there is nothing.
-- Before them stands their text, as `entries` has it, or false where that has to be made anew. They
-- are: its group; the consumer it is pending for; who was granted it last, under which token; how
-- many deliveries; the refusal it got; the entry behind it; the signal admitted under it.
local TEXT, NAME, OWNER, WORKER, TOKEN, DELIVERIES, REFUSED, NEXT, SIGNAL = 1, 2, 3, 4, 5, 6, 7, 8, 9
local NOTHING = cmsgpack.pack('') -- one byte; only a group may end with it too, and that stands first
-- Those of an execution record (Record in stored.py): from admission on, and what a commit adds.
local ENTRY, DIGEST, ID, STATE, BY, INTENT, ADMITTED, DOUBTED, POSITION, FENCE, OUTCOME, ENDED =
  1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12

local entries, tails = {}, {} -- by id: its fields; by group: its last entry, or false
local changed, moved, finished = {}, {}, {} -- ids and groups to be written, ids to be forgotten
local regranted = {} -- of those to be forgotten, which may have been parked
local leased, exposures = {}, {} -- what else is written once, by `flush`

-- Read entries, those of them that are not known yet.
local function know(ids)
  local unknown = {}
  for n = 1, #ids do
    local id = ids[n]
    if entries[id] == nil then unknown[#unknown + 1], entries[id] = id, false end
  end
  local found = each('HMGET', P .. 'entries', unknown)
  for n = 1, #unknown do
    if found[n] then entries[unknown[n]] = {found[n], cmsgpack.unpack(found[n])} end
  end
end

-- The fence: only the worker that was granted the entry last may act on it.
local function held(id, worker, token)
  local entry = entries[id]
  return entry and entry[WORKER] == worker and entry[TOKEN] == token
end

local function put(id, field, value)
  local entry = entries[id]
  entry[TEXT], entry[field], changed[#changed + 1] = false, value, id
end

-- The last two fields are empty at first, and what they get is mostly all that changes: it is put to
-- the text there is, for packing all of them anew is dear.
local function put_next(id, following)
  local text = entries[id][TEXT]
  put(id, NEXT, following)
  if text and string.sub(text, -2) == NOTHING .. NOTHING then
    entries[id][TEXT] = string.sub(text, 1, -3) .. cmsgpack.pack(following) .. NOTHING
  end
end

local function put_signal(id, signal)
  local entry = entries[id]
  local text = entry[SIGNAL] == '' and entry[TEXT]
  entry[SIGNAL], changed[#changed + 1] = signal, id
  entry[TEXT] = text and string.sub(text, 1, -2) .. cmsgpack.pack(signal)
end

local function lease(id, expires)
  local n = #leased
  leased[n + 1], leased[n + 2] = expires, id
end

-- What `park` writes of an order whose admission was lost names no entry: it is no record yet.
local function read_record(raw)
  local record = raw and cmsgpack.unpack(raw) or nil
  return record and record[ENTRY] ~= '' and record or nil, record
end

-- The execution record of a signal, or nil; and, as a second value, what `park` wrote in its place.
local function record_of(signal)
  return read_record(call('GET', P .. 'record:' .. signal))
end

-- What `book` has of a place: its position (JSON, '' for none), and whether a signal is `opening` or
-- `closing` it. It reads '{...}', 'opening s-1' or 'closing s-1 {...}'.
local function place_of(raw)
  if not raw or raw == '' then return '' end
  if string.byte(raw) == 123 then return raw end -- {
  local busy, position = match(raw, '^(%a+) %S+ ?(.*)$')
  return position, busy
end

-- What a reply says of an entry's first delivery: its fields, or the text of `data` if that is all.
-- A list in a reply is dear.
local function first_delivery(fields)
  if #fields == 2 and fields[1] == 'data' then return fields[2] end
  return fields
end

-- What a reply says of a granted entry: as above, or of any delivery but the first, {token,
-- deliveries, signal id, record, overdue ms, what a person decided of its order, fields}.
local function delivery(id, body, overdue)
  local entry = entries[id]
  local signal = entry[SIGNAL]
  if body and entry[TOKEN] == 1 and entry[DELIVERIES] == 1 and signal == '' and overdue == 0 then
    return first_delivery(body[2])
  end
  local record = signal ~= '' and call('GET', P .. 'record:' .. signal)
  local verdict = signal ~= '' and call('HGET', P .. 'verdicts', id)
  return {entry[TOKEN], entry[DELIVERIES], signal, record, overdue, verdict, body and body[2] or {}}
end

-- Lease a known entry to `worker`, raising its token; returns its delivery, nil if its body is gone
-- and it never traded.
local function grant(id, worker, expires, delivered, overdue)
  local entry = entries[id]
  local body = call('XRANGE', SIGNALS, id, id)[1]
  if not body and entry[SIGNAL] == '' then return nil end
  entry[TOKEN], entry[DELIVERIES] = entry[TOKEN] + 1, entry[DELIVERIES] + delivered
  -- A lost group must not break a script half-way; the lease holds without it.
  if entry[OWNER] ~= worker then redis.pcall('XCLAIM', SIGNALS, GROUP, worker, 0, id, 'JUSTID') end
  entry[TEXT], entry[WORKER], entry[OWNER], changed[#changed + 1] = false, worker, worker, id
  lease(id, expires)
  return delivery(id, body, overdue or 0)
end

-- Which primary this is, and since when writes may be missing: a primary we have not seen may lack
-- the last ones of the one before it. Every script that grants entries tells the worker.
-- Returns {since ms, ms until leases from before it have run out, replication id}
local function epoch(at, lease_ms, seen)
  local primary = match(call('INFO', 'replication'), 'master_replid:(%x+)')
  local known = call('HMGET', P .. 'epoch', 'primary', 'since')
  local since = tonumber(known[2] or 0)
  if known[1] ~= primary or since == 0 and seen ~= '' and seen ~= primary then
    since = (known[1] or seen ~= '') and at or 0
    call('HSET', P .. 'epoch', 'primary', primary, 'since', since)
  end
  return {since, since > 0 and math.max(since + lease_ms - at, 0) or 0, primary}
end

-- The value of a JSON string field, if the text holds the name once and both are written plainly. The
-- name is looked for without its first two characters: a search stops wherever its first one stands,
-- and in JSON that is everywhere for a quote, and hardly anywhere for an x or y.
local function plain(data, rest_of_name, field)
  local at = find(data, rest_of_name, 1, true)
  if not at or find(data, rest_of_name, at + 1, true) then return nil end
  return match(data, field, at - 2)
end
local EXCHANGE, SYMBOL = '^"exchange": ?"([^"\\]*)"', '^"symbol": ?"([^"\\]*)"'

-- The message group of a new entry: its `key` field, else exchange and symbol, else its own.
-- A colon tells it from an entry's id, for `entries` holds both.
local function group_of(id, fields)
  local name, data = '', ''
  for n = 1, #fields, 2 do
    if fields[n] == 'data' then data = fields[n + 1] elseif fields[n] == 'key' then name = fields[n + 1] end
  end
  if name == '' and #data <= 65536 then
    local exchange, symbol = plain(data, 'xchange"', EXCHANGE), plain(data, 'ymbol"', SYMBOL)
    if not exchange or not symbol or find(data, '\\u', 1, true) then -- a name may be escaped
      local ok, signal = pcall(cjson.decode, data)
      if ok and type(signal) == 'table' then exchange, symbol = signal.exchange, signal.symbol end
    end
    if type(exchange) == 'string' and type(symbol) == 'string' then
      name = exchange .. ':' .. symbol
    end
  end
  if name == '' then return '!' .. id end
  return ':' .. (#name > 128 and redis.sha1hex(name) or name)
end

-- Line new entries (as they are on the stream), pending for `owner`, up in their groups. The grant
-- of a head is `token` 1 if there is a `worker`. Returns the heads.
local function enter(new, owner, worker)
  local names, unknown, last, heads = {}, {}, {}, {}
  for n = 1, #new do
    local name = group_of(new[n][1], new[n][2])
    names[n] = name
    if tails[name] == nil then unknown[#unknown + 1], tails[name] = name, false end
  end
  local found = each('HMGET', P .. 'entries', unknown)
  for n = 1, #unknown do
    if found[n] then tails[unknown[n]], last[#last + 1] = found[n], found[n] end
  end
  know(last)
  local times = worker ~= '' and 1 or 0
  local granted = cmsgpack.pack(owner, worker, times, times, '', '', '')
  local waiting = cmsgpack.pack(owner, '', 0, 0, '', '', '')
  for n = 1, #new do
    local id, name = new[n][1], names[n]
    local before = tails[name]
    local head = not (before and entries[before])
    entries[id] = {cmsgpack.pack(name) .. (head and granted or waiting)} -- its text is all that is ever added to
    changed[#changed + 1], tails[name], moved[#moved + 1] = id, id, name
    if head then heads[#heads + 1] = new[n] else put_next(before, id) end
  end
  return heads
end

-- Forget an entry; returns the one that now heads its group, or nil.
local function finish(id)
  local entry = entries[id]
  local name, following = entry[NAME], entry[NEXT]
  finished[#finished + 1], entries[id] = id, false
  if entry[TOKEN] ~= 1 then regranted[#regranted + 1] = id end
  if following ~= '' then return following end
  tails[name], moved[#moved + 1] = false, name
end

-- HINCRBY takes no exponent, and some servers would write 1e+17.
local function add(key, field, change)
  if math.abs(change) >= 1e15 then change = string.format('%.0f', change) end
  call('HINCRBY', key, field, change)
end

-- Change what the account's positions count for in a quote currency, in millionths.
local function expose(quote, change)
  if change ~= 0 then exposures[quote] = (exposures[quote] or 0) + change end
end

-- Book what was earned today (lost, if less than 0) in a quote currency, in millionths.
local function earn(quote, profit, at)
  if profit == 0 then return end
  local day = P .. 'day:' .. math.floor(at / 86400000)
  add(day, quote, profit)
  call('EXPIRE', day, 259200)
  add(P .. 'realized', quote, profit)
end

local function flush()
  for n = 1, #finished, 1000 do
    call('XACK', SIGNALS, GROUP, unpack(finished, n, math.min(n + 999, #finished)))
  end
  each('ZADD', P .. 'leases', leased)
  each('ZREM', P .. 'leases', finished)
  each('ZREM', P .. 'unresolved', regranted)
  each('HDEL', P .. 'verdicts', regranted)
  local set, last, removed = {}, 0, finished
  for n = 1, #changed do
    local id = changed[n]
    local entry = entries[id]
    if entry then
      set[last + 1], set[last + 2] = id, entry[TEXT] or cmsgpack.pack(unpack(entry, NAME))
      last = last + 2
    end
    entries[id] = nil -- once is enough
  end
  for n = 1, #moved do
    local name = moved[n]
    local tail = tails[name]
    if tail then
      set[last + 1], set[last + 2] = name, tail
      last = last + 2
    else removed[#removed + 1] = name end
  end
  each('HDEL', P .. 'entries', removed)
  each('HSET', P .. 'entries', set)
  for quote, change in pairs(exposures) do add(P .. 'totals', quote, change) end
end

local function ring()
  call('XADD', P .. 'bell', 'MAXLEN', 1, '*', 'r', '1')
end

-- Let any worker take `id`.
local function offer(id)
  call('RPUSH', P .. 'released', id)
  ring()
end

-- Write an event by itself; those of an outcome are written by `commit`.
local function append(stream, kind, id, data, subject)
  call('XADD', STREAM[stream], '*', 'type', kind, 'id', id, 'subject', subject, 'data', data)
end

-- Keep an output stream at about its length.
local function trim(stream, length)
  call('XTRIM', STREAM[stream], 'MAXLEN', '~', length)
end
