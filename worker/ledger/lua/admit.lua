-- Check the account's limits for orders, reserve them and write the execution records.
-- ARGV: worker, how many arguments have the fields of all orders (items.py), these, then the
-- beginning of each order's record
-- Returns {now ms, per order a status or {status, argument, pause ms, admitted at}}: admitted +
-- position, refused + code, fenced, duplicate, conflict. An order admitted now and without a pause
-- has its position alone, or if there is none `admitted` alone
local worker = ARGV[1]
local at = now()
local state = call('HGET', P .. 'control', 'trading_state') or 'ACTIVE'
local day = P .. 'day:' .. math.floor(at / 86400000)
local rate = P .. 'rate:' .. math.floor(at / 60000)

local FIELDS = 14 -- of an order; the first one's are fields[1] to fields[14], and so on
local fields, at_records = unpacked(2)
local ids, places, keys = {}, {}, {}
for n = 1, #fields / FIELDS do
  local before = FIELDS * (n - 1)
  ids[n], places[n] = fields[before + 1], fields[before + 6]
  keys[n] = P .. 'record:' .. fields[before + 3]
end
know(ids)

local book, slots = {}, each('HMGET', P .. 'book', places) -- by place: as it is stored, or false
for n = 1, #places do book[places[n]] = slots[n] end
local open = call('HLEN', P .. 'book')
local stored, records = call('MGET', unpack(keys)), {}
for n = 1, #keys do records[keys[n]] = stored[n] end

local pauses, totals, losses, reserved, written = {}, {}, {}, {}, {}

-- A number in a hash, 0 if there is none; read once.
local function once(cache, name, key)
  if not cache[name] then cache[name] = tonumber(call('HGET', key, name) or 0) end
  return cache[name]
end

-- For how long the fleet sends nothing to an exchange.
local function pause(exchange)
  local until_ms = pauses[exchange] or once(pauses, exchange, P .. 'throttle')
  return until_ms > at and until_ms - at or 0
end

-- The code of the first rule an order breaks, or nil; `last` is where its fields end.
local function breach(last, position, busy)
  local action, quote, notional, max_positions, max_exposure, max_loss, max_rate, only_look =
    unpack(fields, last - 7, last)
  local sends = not only_look -- an order that may exist needs a place whatever the limits
  if sends and state ~= 'ACTIVE' and state ~= 'REDUCING' then return 'TRADING_HALTED' end
  if action ~= 'open' then
    if busy then return 'POSITION_BUSY' end
    return position == '' and 'NO_POSITION' or nil
  end
  if sends and state == 'REDUCING' then return 'TRADING_REDUCING' end
  if busy == 'opening' or busy and not sends then return 'POSITION_BUSY' end
  if not sends then return nil end -- if it traded, it is part of whatever position there is
  if busy or position ~= '' then return 'POSITION_EXISTS' end
  if open >= max_positions then return 'MAX_POSITIONS' end
  if max_exposure > 0 then
    local total = once(totals, quote, P .. 'totals') + (exposures[quote] or 0)
    if total + notional > max_exposure then return 'MAX_EXPOSURE' end
  end
  if max_loss > 0 and -once(losses, quote, day) >= max_loss then return 'DAILY_LOSS_LIMIT' end
  if max_rate > 0 then
    if call('INCR', rate) > max_rate then return 'ORDER_RATE_LIMIT' end
    call('EXPIRE', rate, 120)
  end
end

local stamps = cmsgpack.pack(at, 0) -- in a record before the position, unless somebody had doubts

local function admit(n)
  local last = FIELDS * n
  local id, token, signal, digest, exchange, place, action, quote, notional =
    unpack(fields, last - 13, last - 5)
  if not held(id, worker, token) then return 'fenced' end
  local key, entry = keys[n], entries[id]
  local record, parked = read_record(records[key])
  if record then
    if record[DIGEST] ~= digest then return 'conflict' end
    if record[ENTRY] ~= id or record[STATE] ~= 'ADMITTED' then return 'duplicate' end
    -- Asked again: the first reply was lost. Written again, for WAIT only waits for writes.
    changed[#changed + 1] = id
    return {'admitted', record[POSITION], pause(exchange), record[ADMITTED]}
  end
  local question = fields[last] and '?' or '!'
  if entry[REFUSED] ~= '' then
    local asked, code = string.match(entry[REFUSED], '^(%d+.)(.+)$')
    if asked == token .. question then return {'refused', code} end -- asked again
  end
  local position, busy = place_of(book[place])
  local code = breach(last, position, busy)
  if code then
    put(id, REFUSED, token .. question .. code)
    return {'refused', code}
  end
  if action == 'open' then expose(quote, notional) end
  if position ~= '' then book[place] = 'closing ' .. signal .. ' ' .. position
  else book[place], open = 'opening ' .. signal, open + 1 end
  reserved[#reserved + 1], reserved[#reserved + 2] = place, book[place]
  put_signal(id, signal)
  local doubted = parked and parked[DOUBTED] or 0
  records[key] = ARGV[at_records + n - 1] .. (doubted == 0 and stamps or cmsgpack.pack(at, doubted))
    .. (position == '' and NOTHING or cmsgpack.pack(position))
  written[#written + 1], written[#written + 2] = key, records[key]
  local wait_ms = pause(exchange)
  if wait_ms == 0 then return position == '' and 'admitted' or position end
  return {'admitted', position, wait_ms, at}
end

local results = {}
for n = 1, #ids do results[n] = admit(n) end
if #written > 0 then call('MSET', unpack(written)) end
each('HSET', P .. 'book', reserved)
flush()
return {at, results}
