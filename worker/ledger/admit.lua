-- Check the account's limits for orders, reserve them and write the execution records.
-- ARGV: worker, then one msgpack array an order (AdmitItem in calls.py)
-- Returns per order {status, argument, pause ms, admitted at}: admitted + position, refused +
-- code, fenced, duplicate or conflict
local worker = ARGV[1]
local at = now()
local state = redis.call('HGET', P .. 'control', 'trading_state') or 'ACTIVE'
local day = P .. 'day:' .. math.floor(at / 86400000)
local rate = P .. 'rate:' .. math.floor(at / 60000)

local items, ids, places, keys = {}, {}, {}, {}
for n = 2, #ARGV do
  local item = cmsgpack.unpack(ARGV[n])
  items[n - 1], ids[n - 1] = item, item[1]
  keys[n - 1], places[n - 1] = P .. 'record:' .. item[3], item[6]
end
know(ids)

-- One hash's fields for all items: by field, false where there is none.
local function look(key)
  local found = {}
  for n, value in ipairs(each('HMGET', P .. key, places)) do found[places[n]] = value end
  return found
end
local book, opening, closing = look('book'), look('opening'), look('closing')
local records, doubts, open = {}, {}, redis.call('HLEN', P .. 'book') + redis.call('HLEN', P .. 'opening')
for n, raw in ipairs(redis.call('MGET', unpack(keys))) do
  local record, parked = read_record(raw)
  records[keys[n]], doubts[keys[n]] = record, parked and parked[DOUBTED] or 0
end

local pauses, totals, losses, reserved, written = {}, {}, {}, {opening = {}, closing = {}}, {}

local function once(cache, name, key)
  if not cache[name] then cache[name] = tonumber(redis.call('HGET', key, name) or 0) end
  return cache[name]
end

-- For how long the fleet sends nothing to an exchange.
local function pause(exchange)
  return math.max(once(pauses, exchange, P .. 'throttle') - at, 0)
end

-- The code of the first rule an order breaks, or nil.
local function breach(item)
  local _, _, _, _, _, place, action, quote, _, notional, max_positions, max_exposure, max_loss,
    max_rate, only_look = unpack(item)
  local sends = not only_look -- an order that may exist needs a place whatever the limits
  if sends and state ~= 'ACTIVE' and state ~= 'REDUCING' then return 'TRADING_HALTED' end
  if action ~= 'open' then
    if closing[place] then return 'POSITION_BUSY' end
    if book[place] then return nil end
    return opening[place] and 'POSITION_BUSY' or 'NO_POSITION'
  end
  if sends and state == 'REDUCING' then return 'TRADING_REDUCING' end
  if opening[place] or closing[place] and not sends then return 'POSITION_BUSY' end
  if not sends then return nil end -- if it traded, it is part of whatever position there is
  if book[place] then return 'POSITION_EXISTS' end
  if open >= max_positions then return 'MAX_POSITIONS' end
  if max_exposure > 0 then
    local total = once(totals, quote, P .. 'totals') + (exposures[quote] or 0)
    if total + notional > max_exposure then return 'MAX_EXPOSURE' end
  end
  if max_loss > 0 and -once(losses, quote, day) >= max_loss then return 'DAILY_LOSS_LIMIT' end
  if max_rate > 0 then
    if redis.call('INCR', rate) > max_rate then return 'ORDER_RATE_LIMIT' end
    redis.call('EXPIRE', rate, 120)
  end
end

local function admit(item, key)
  local id, token, signal, digest, exchange, place, action, quote, intent, notional = unpack(item)
  local only_look = item[15]
  if not held(id, worker, token) then return {'fenced', '', 0, 0} end
  local record, entry = records[key], entries[id]
  if record then
    if record[DIGEST] ~= digest then return {'conflict', '', 0, 0} end
    if record[ENTRY] ~= id or record[STATE] ~= 'ADMITTED' then return {'duplicate', '', 0, 0} end
    -- Asked again: the first reply was lost. Written again, for WAIT only waits for writes.
    changed[id] = true
    return {'admitted', record[POSITION], pause(exchange), record[ADMITTED]}
  end
  local question = token .. (only_look and ' look' or '')
  if entry[ASKED] == question then return {'refused', entry[REFUSED], 0, 0} end -- asked again
  local code = breach(item)
  if code then
    put(id, REFUSED, code)
    put(id, ASKED, question)
    return {'refused', code, 0, 0}
  end
  if action == 'open' then expose(quote, notional) end
  if book[place] then closing[place], reserved.closing[place] = signal, signal
  else opening[place], reserved.opening[place], open = signal, signal, open + 1 end
  put(id, SIGNAL, signal)
  local position = book[place] or ''
  records[key] = {id, digest, signal, 'ADMITTED', worker, at, doubts[key], intent, position}
  written[#written + 1], written[#written + 2] = key, cmsgpack.pack(records[key])
  return {'admitted', position, pause(exchange), at}
end

local results = {}
for n, item in ipairs(items) do results[n] = admit(item, keys[n]) end
if #written > 0 then redis.call('MSET', unpack(written)) end
store(P .. 'opening', reserved.opening)
store(P .. 'closing', reserved.closing)
flush()
return results
