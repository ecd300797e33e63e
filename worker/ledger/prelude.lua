-- Shared by every script: names, the clock, the fence, and giving an entry to a worker.
-- KEYS[1] is always {account}:signals; every other key shares its hash tag and so its slot.
local SIGNALS, GROUP = KEYS[1], 'execution'
local P = string.sub(SIGNALS, 1, -8)

-- A slot that is being moved answers for a missing key with an error: stop before the first write.
redis.call('EXISTS', P .. 'none')

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The fence: only the worker that was granted the entry last may act on it.
local function held(id, worker, token)
  local owner = redis.call('HMGET', P .. 'entry:' .. id, 'worker', 'token')
  return owner[1] == worker and tonumber(owner[2]) == token
end

local RECORD = {'entry', 'state', 'intent', 'position', 'signal', 'unresolved_since'}

-- Describe a granted entry: {id, fields, token, deliveries, signal id, record, group, overdue ms}.
local function delivery(id, fields, overdue)
  local entry = redis.call('HMGET', P .. 'entry:' .. id, 'token', 'deliveries', 'signal', 'group')
  local record = entry[3] and redis.call('HMGET', P .. 'record:' .. entry[3], unpack(RECORD))
  return {id, fields, tonumber(entry[1]), tonumber(entry[2]), entry[3] or '', record or {}, entry[4],
    overdue}
end

-- Lease a known entry to `worker`, raising its token; nil if its body is gone and it never traded.
local function grant(id, worker, expires, delivered, overdue)
  local key = P .. 'entry:' .. id
  local body = redis.call('XRANGE', SIGNALS, id, id)[1]
  if not body and redis.call('HEXISTS', key, 'signal') == 0 then return nil end
  redis.call('HINCRBY', key, 'token', 1)
  redis.call('HINCRBY', key, 'deliveries', delivered)
  redis.call('HSET', key, 'worker', worker)
  redis.call('ZADD', P .. 'leases', expires, id)
  redis.call('XCLAIM', SIGNALS, GROUP, worker, 0, id, 'JUSTID')
  return delivery(id, body and body[2] or {}, overdue or 0)
end

-- The message group of a new entry: its `key` field, else exchange and symbol, else its own.
local function group_of(id, fields)
  local field = {}
  for n = 1, #fields, 2 do field[fields[n]] = fields[n + 1] end
  local name = field.key or ''
  if name == '' and #(field.data or '') <= 65536 then
    local ok, signal = pcall(cjson.decode, field.data or '')
    if ok and type(signal) == 'table' and type(signal.exchange) == 'string'
      and type(signal.symbol) == 'string' then name = signal.exchange .. ':' .. signal.symbol end
  end
  if name == '' then return '!' .. id end
  return #name > 128 and redis.sha1hex(name) or name
end

-- Line a new entry up in its group; returns the group's name if it is the head, else nil.
local function enter(id, fields)
  local name = group_of(id, fields)
  if redis.call('RPUSH', P .. 'group:' .. name, id) == 1 then return name end
  redis.call('HSET', P .. 'entry:' .. id, 'group', name, 'token', 0, 'deliveries', 0, 'worker', '')
end

-- Forget a finished entry and return the id that now heads its group, or nil.
local function finish(id)
  local key = P .. 'entry:' .. id
  local group = P .. 'group:' .. redis.call('HGET', key, 'group')
  redis.call('XACK', SIGNALS, GROUP, id)
  redis.call('DEL', key)
  redis.call('ZREM', P .. 'leases', id)
  redis.call('LREM', group, 1, id)
  return redis.call('LINDEX', group, 0)
end

local function ring()
  redis.call('XADD', P .. 'bell', 'MAXLEN', 1, '*', 'r', '1')
end

-- Let any worker take `id`.
local function offer(id)
  redis.call('RPUSH', P .. 'released', id)
  ring()
end

-- Set what a position counts for in its quote currency's exposure, in millionths.
local function set_exposure(position, quote, amount)
  local old = tonumber(redis.call('HGET', P .. 'exposure', position) or 0)
  if amount == 0 then redis.call('HDEL', P .. 'exposure', position)
  else redis.call('HSET', P .. 'exposure', position, amount) end
  if amount ~= old then redis.call('HINCRBY', P .. 'totals', quote, amount - old) end
end

local function append(stream, event, subject, limit)
  redis.call('XADD', P .. stream, 'MAXLEN', '~', limit, '*',
    'type', event[2], 'id', event[3], 'subject', subject, 'data', event[4])
end
