-- Check the account's limits for orders, reserve them and write the execution records.
-- ARGV: worker, then one msgpack map an order (AdmitItem in calls.py)
-- Returns per order {status, argument, pause ms}: admitted + position, refused + code,
-- fenced, duplicate or conflict
local worker = ARGV[1]
local at = now()
local state = redis.call('HGET', P .. 'control', 'trading_state') or 'ACTIVE'
local day = P .. 'day:' .. math.floor(at / 86400000)
local rate = P .. 'rate:' .. math.floor(at / 60000)

local open, pauses, totals, losses = nil, {}, {}, {}

local function once(cache, name, key)
  if not cache[name] then cache[name] = tonumber(redis.call('HGET', key, name) or 0) end
  return cache[name]
end

-- The code of the first rule the order breaks, or nil.
local function breach(item, position)
  local sends = not item.only_look -- an order that may exist needs a place whatever the limits
  if sends and state ~= 'ACTIVE' and state ~= 'REDUCING' then return 'TRADING_HALTED' end
  if item.action ~= 'open' then
    if redis.call('HEXISTS', P .. 'closing', item.position) == 1 then return 'POSITION_BUSY' end
    if position then return nil end
    return redis.call('HEXISTS', P .. 'opening', item.position) == 1 and 'POSITION_BUSY' or 'NO_POSITION'
  end
  if sends and state == 'REDUCING' then return 'TRADING_REDUCING' end
  if position then return 'POSITION_EXISTS' end
  if redis.call('HEXISTS', P .. 'opening', item.position) == 1 then return 'POSITION_BUSY' end
  open = open or redis.call('HLEN', P .. 'book') + redis.call('HLEN', P .. 'opening')
  if not sends then return nil end
  if open >= item.max_positions then return 'MAX_POSITIONS' end
  if item.max_exposure > 0 then
    local total = once(totals, item.quote, P .. 'totals') + (exposures[item.quote] or 0)
    if total + item.notional > item.max_exposure then return 'MAX_EXPOSURE' end
  end
  if item.max_loss > 0 and -once(losses, item.quote, day) >= item.max_loss then
    return 'DAILY_LOSS_LIMIT'
  end
  if item.max_rate > 0 then
    if redis.call('INCR', rate) > item.max_rate then return 'ORDER_RATE_LIMIT' end
    redis.call('EXPIRE', rate, 120)
  end
end

local function admit(item)
  local entry_key = P .. 'entry:' .. item.entry
  local entry = redis.call('HMGET', entry_key, 'worker', 'token', 'refused', 'refused_to')
  if entry[1] ~= worker or tonumber(entry[2]) ~= item.token then return {'fenced', '', 0} end
  local key = P .. 'record:' .. item.signal
  local record = redis.call('HMGET', key, 'entry', 'digest', 'state', 'position')
  if record[1] then
    if record[2] ~= item.digest then return {'conflict', '', 0} end
    if record[1] ~= item.entry or record[3] ~= 'ADMITTED' then return {'duplicate', '', 0} end
    -- Asked again: the first reply was lost. Written again, for WAIT only waits for writes.
    redis.call('HSET', key, 'worker', worker)
    return {'admitted', record[4], 0}
  end
  local question = item.token .. (item.only_look and ' look' or '')
  if entry[4] == question then return {'refused', entry[3], 0} end -- asked again
  local position = redis.call('HGET', P .. 'book', item.position)
  local code = breach(item, position)
  if code then
    redis.call('HSET', entry_key, 'refused', code, 'refused_to', question)
    return {'refused', code, 0}
  end
  if item.action == 'open' then
    redis.call('HSET', P .. 'opening', item.position, item.signal)
    open = open + 1
    expose(item.quote, item.notional)
  else
    redis.call('HSET', P .. 'closing', item.position, item.signal)
  end
  redis.call('HSET', entry_key, 'signal', item.signal)
  redis.call('HSET', key, 'entry', item.entry, 'digest', item.digest, 'state', 'ADMITTED',
    'intent', item.intent, 'position', position or '', 'signal', item.signal,
    'worker', worker, 'admitted_at', at)
  local pause = once(pauses, item.exchange, P .. 'throttle') - at
  return {'admitted', position or '', math.max(pause, 0)}
end

local results = {}
for n = 2, #ARGV do results[n - 1] = admit(cmsgpack.unpack(ARGV[n])) end
flush()
return results
