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

-- A granted entry: {id, fields, token, deliveries, signal id, record, group, overdue ms}.
local function delivery(id, body, token, deliveries, signal, group, overdue)
  local record = signal and redis.call('HMGET', P .. 'record:' .. signal, unpack(RECORD)) or {}
  return {id, body and body[2] or {}, token, deliveries, signal or '', record, group, overdue}
end

-- Lease a known entry to `worker`, raising its token; nil if its body is gone and it never traded.
local function grant(id, worker, expires, delivered, overdue)
  local key = P .. 'entry:' .. id
  local entry = redis.call('HMGET', key, 'token', 'deliveries', 'signal', 'group', 'owner')
  local body = redis.call('XRANGE', SIGNALS, id, id)[1]
  if not body and not entry[3] then return nil end
  local token, deliveries = (entry[1] or 0) + 1, (entry[2] or 0) + delivered
  redis.call('HSET', key, 'token', token, 'deliveries', deliveries, 'worker', worker, 'owner', worker)
  redis.call('ZADD', P .. 'leases', expires, id)
  -- A lost group must not break a script half-way; the lease holds without it.
  if entry[5] ~= worker then redis.pcall('XCLAIM', SIGNALS, GROUP, worker, 0, id, 'JUSTID') end
  return delivery(id, body, token, deliveries, entry[3], entry[4], overdue or 0)
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

-- Line a new entry, pending for `owner`, up in its group. The head's grant is `token` 1 if it has
-- a `worker`. Returns the group's name if the entry is its head, else nil.
local function enter(id, fields, owner, worker)
  local name = group_of(id, fields)
  local head = redis.call('RPUSH', P .. 'group:' .. name, id) == 1
  local granted = head and worker ~= ''
  redis.call('HSET', P .. 'entry:' .. id, 'group', name, 'owner', owner, 'token', granted and 1 or 0,
    'deliveries', granted and 1 or 0, 'worker', granted and worker or '')
  return head and name or nil
end

-- What is written once for all items of a call, by `flush`.
local finished, keys, exposures = {}, {}, {}

-- Forget an entry of group `name`; returns the id that now heads the group, or nil.
local function finish(id, name)
  finished[#finished + 1], keys[#keys + 1] = id, P .. 'entry:' .. id
  redis.call('LREM', P .. 'group:' .. name, 1, id)
  return redis.call('LINDEX', P .. 'group:' .. name, 0)
end

-- HINCRBY takes no exponent, and some servers would write 1e+17.
local function add(key, field, change)
  redis.call('HINCRBY', key, field, string.format('%.0f', change))
end

-- Change what the account's positions count for in a quote currency, in millionths.
local function expose(quote, change)
  if change ~= 0 then exposures[quote] = (exposures[quote] or 0) + change end
end

local function flush()
  for n = 1, #finished, 1000 do -- a call takes some 8,000 arguments, a claim may let more go
    local last = math.min(n + 999, #finished)
    redis.call('XACK', SIGNALS, GROUP, unpack(finished, n, last))
    redis.call('ZREM', P .. 'leases', unpack(finished, n, last))
    redis.call('ZREM', P .. 'unresolved', unpack(finished, n, last))
    redis.call('DEL', unpack(keys, n, last))
  end
  for quote, change in pairs(exposures) do add(P .. 'totals', quote, change) end
end

local function ring()
  redis.call('XADD', P .. 'bell', 'MAXLEN', 1, '*', 'r', '1')
end

-- Let any worker take `id`.
local function offer(id)
  redis.call('RPUSH', P .. 'released', id)
  ring()
end

-- Write an event; `trace` is a producer's or worker's W3C trace context, if there is one.
local function append(stream, event, subject, limit, trace)
  if trace and trace ~= '' then
    redis.call('XADD', P .. stream, 'MAXLEN', '~', limit, '*', 'type', event[2], 'id', event[3],
      'subject', subject, 'data', event[4], 'traceparent', trace)
  else
    redis.call('XADD', P .. stream, 'MAXLEN', '~', limit, '*',
      'type', event[2], 'id', event[3], 'subject', subject, 'data', event[4])
  end
end
