#!lua flags=allow-oom
-- Write outcomes: events, position, reservation, record and acknowledgement in one step, and
-- hand the next entry of the group to the same worker.
-- ARGV: worker, lease ms, record retention ms, output length, replication id last seen, then one
-- msgpack array each (CommitItem in calls.py)
-- Returns {per item {status, next delivery or false}, epoch}: committed, duplicate, conflict or
-- fenced
local worker, retention, limit = ARGV[1], ARGV[3], ARGV[4]
local at = now()
local lease_ms = tonumber(ARGV[2])
local expires = at + lease_ms

local profits, released, book = {}, {opening = {}, closing = {}}, {}

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
  local body = redis.call('XRANGE', SIGNALS, id, id)[1]
  local fields = body and {unpack(body[2], 1, math.min(#body[2], 6000))} or {} -- a call's limit
  for _, part in ipairs(about) do fields[#fields + 1] = part end
  redis.call('XADD', P .. 'dead', '*', unpack(fields))
end

-- Give the reservation back and write the position; amounts in millionths of the quote currency.
-- An admission of which nothing is known was lost with a primary, and its reservation with it.
local function settle(item, admitted)
  local reservation, place, position, quote, exposure, reserved, realized = unpack(item, 10, 16)
  if admitted then released[reservation][place] = false else expose(quote, reserved) end
  if position then book[place] = position ~= '' and position end
  expose(quote, exposure)
  if realized ~= 0 then profits[quote] = (profits[quote] or 0) + realized end
end

local function close_record(item)
  local id, token, signal, digest, state, outcome, admitted_at, doubted = unpack(item, 1, 8)
  local record = {id, digest, signal, state, worker, admitted_at, doubted, '', '', token, outcome, at}
  redis.call('SET', P .. 'record:' .. signal, cmsgpack.pack(record), 'PX', retention)
  records[signal] = record
end

local function commit(item)
  local id, token, signal, digest = unpack(item, 1, 4)
  local dead, trace, duplicate, take_next = unpack(item, 17, 20)
  if not held(id, worker, token) then
    return {repeated(id, token, signal) and 'committed' or 'fenced', false}
  end
  local known = entries[id][SIGNAL]
  -- Whoever ends an admitted entry must know of it: two tasks of one worker may hold one grant.
  if known ~= '' and item[10] == '' then return {'fenced', false} end
  local admitted = known ~= '' and known == signal
  local status = (duplicate or admitted) and 'committed' or verdict(signal, digest)
  if status == 'conflict' then return {status, false} end -- comes again as a dead letter
  if status == 'committed' and not duplicate then
    if item[10] ~= '' then settle(item, admitted) end
    for _, event in ipairs(item[9]) do append(event, signal, trace) end
    if signal ~= '' then close_record(item) end
  end
  if dead then bury(id, dead) end
  local following = finish(id)
  if following then know({following}) end
  if not following or not entries[following] then return {status, false} end
  local got = take_next and grant(following, worker, expires, 1)
  if not got then offer(following) end
  return {status, got or false}
end

-- A stream that is none would stop the script half-way, its first events written.
for _, stream in ipairs({'orders', 'positions', 'system', 'dead'}) do
  local kind = redis.call('TYPE', P .. stream).ok
  if kind ~= 'stream' and kind ~= 'none' then
    return redis.error_reply('WRONGTYPE ' .. P .. stream .. ' is a ' .. kind .. ', not a stream')
  end
end

local items, ids, results = {}, {}, {}
for n = 6, #ARGV do
  items[n - 5] = cmsgpack.unpack(ARGV[n])
  ids[n - 5] = items[n - 5][1]
end
know(ids)
for _, item in ipairs(items) do
  if not entries[item[1]] or entries[item[1]][SIGNAL] ~= item[3] then recorded(item[3]) end
end
local told = epoch(at, lease_ms, ARGV[5])
-- Their followers in one go, though not all of them may be wanted.
local followers = {}
for _, id in ipairs(ids) do
  if entries[id] and entries[id][NEXT] ~= '' then followers[#followers + 1] = entries[id][NEXT] end
end
know(followers)
for n, item in ipairs(items) do results[n] = commit(item) end
store(P .. 'opening', released.opening)
store(P .. 'closing', released.closing)
store(P .. 'book', book)
flush()
for _, stream in ipairs({'orders', 'positions', 'system'}) do trim(stream, limit) end
for quote, profit in pairs(profits) do
  local day = P .. 'day:' .. math.floor(at / 86400000)
  add(day, quote, profit)
  redis.call('EXPIRE', day, 259200)
  add(P .. 'realized', quote, profit)
end
return {results, told}
