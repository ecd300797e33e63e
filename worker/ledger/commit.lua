#!lua flags=allow-oom
-- Write outcomes: events, position, reservation, record and acknowledgement in one step, and
-- hand the next entry of the group to the same worker.
-- ARGV: worker, lease ms, record retention ms, output length, then one msgpack map each (CommitItem)
-- Returns per item {status, next delivery or false}: committed, duplicate, conflict or fenced
local worker, retention, limit = ARGV[1], ARGV[3], ARGV[4]
local at = now()
local expires = at + tonumber(ARGV[2])

local profits = {}

-- What an earlier signal under the same id means for one that was never admitted.
local function verdict(item)
  local record = redis.call('HMGET', P .. 'record:' .. item.signal, 'entry', 'digest')
  if not record[1] then return 'committed' end
  return record[2] == item.digest and 'duplicate' or 'conflict'
end

-- Whether this very call was made before and its reply was lost.
local function repeated(item)
  local record = redis.call('HMGET', P .. 'record:' .. item.signal, 'entry', 'worker', 'token')
  return record[1] == item.entry and record[2] == worker and tonumber(record[3]) == item.token
end

-- Give the reservation back and write the position; amounts in millionths of the quote currency.
-- An admission of which nothing is known was lost with a primary, and its reservation with it.
local function book(item, admitted)
  if admitted then redis.call('HDEL', P .. item.reservation, item.position_key)
  else expose(item.quote, item.reserved) end
  if item.position == '' then redis.call('HDEL', P .. 'book', item.position_key)
  elseif item.position then redis.call('HSET', P .. 'book', item.position_key, item.position) end
  expose(item.quote, item.exposure)
  if item.realized ~= 0 then profits[item.quote] = (profits[item.quote] or 0) + item.realized end
end

local function close_record(item)
  local key = P .. 'record:' .. item.signal
  redis.call('HSET', key, 'entry', item.entry, 'digest', item.digest, 'signal', item.signal,
    'state', item.state, 'outcome', item.outcome, 'worker', worker, 'token', item.token,
    'ended_at', at)
  redis.call('PEXPIRE', key, retention)
end

local function bury(item)
  local body = redis.call('XRANGE', SIGNALS, item.entry, item.entry)[1]
  local fields = body and {unpack(body[2], 1, math.min(#body[2], 6000))} or {} -- a call's limit
  for _, part in ipairs(item.dead) do fields[#fields + 1] = part end
  redis.call('XADD', P .. 'dead', '*', unpack(fields))
end

local function commit(item)
  local entry = redis.call('HMGET', P .. 'entry:' .. item.entry, 'worker', 'token', 'signal', 'group')
  if entry[1] ~= worker or tonumber(entry[2]) ~= item.token then
    return {repeated(item) and 'committed' or 'fenced', false}
  end
  local status = (item.duplicate or entry[3] == item.signal) and 'committed' or verdict(item)
  if status == 'conflict' then return {status, false} end -- comes again as a dead letter
  if status == 'committed' and not item.duplicate then
    if item.reservation ~= '' then book(item, entry[3] == item.signal) end
    for _, event in ipairs(item.events) do
      append(event[1], event, item.signal, limit, item.traceparent)
    end
    if item.signal ~= '' then close_record(item) end
  end
  if item.dead then bury(item) end
  local following = finish(item.entry, entry[4])
  if not following then return {status, false} end
  local got = item.take_next and grant(following, worker, expires, 1)
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

local results = {}
for n = 5, #ARGV do results[n - 4] = commit(cmsgpack.unpack(ARGV[n])) end
flush()
for quote, profit in pairs(profits) do
  local day = P .. 'day:' .. math.floor(at / 86400000)
  add(day, quote, profit)
  redis.call('EXPIRE', day, 259200)
  add(P .. 'realized', quote, profit)
end
return results
