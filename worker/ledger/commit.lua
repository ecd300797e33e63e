#!lua flags=allow-oom
-- Write outcomes: events, position, reservation, record and acknowledgement in one step, and
-- hand the next entry of the group to the same worker.
-- ARGV: worker, lease ms, record retention ms, output length, then one msgpack map each (CommitItem)
-- Returns per item {status, next delivery or false}: committed, duplicate, conflict or fenced
local worker, retention, limit = ARGV[1], ARGV[3], ARGV[4]
local at = now()
local expires = at + tonumber(ARGV[2])

-- What an earlier signal under the same id means for this one.
local function verdict(item, record)
  if item.duplicate or not record[1] then return 'committed' end
  if record[1] == item.entry and record[3] == 'ADMITTED' then return 'committed' end
  return record[2] == item.digest and 'duplicate' or 'conflict'
end

local function book(item)
  redis.call('HDEL', P .. 'opening', item.position_key)
  redis.call('HDEL', P .. 'closing', item.position_key)
  if item.position == '' then redis.call('HDEL', P .. 'book', item.position_key)
  elseif item.position then redis.call('HSET', P .. 'book', item.position_key, item.position) end
  set_exposure(item.position_key, item.quote, item.exposure)
  if item.realized ~= 0 then
    local day = P .. 'day:' .. math.floor(at / 86400000)
    redis.call('HINCRBY', day, item.quote, item.realized)
    redis.call('EXPIRE', day, 259200)
    redis.call('HINCRBY', P .. 'realized', item.quote, item.realized)
  end
end

local function close_record(item, key)
  redis.call('HSET', key, 'entry', item.entry, 'digest', item.digest, 'signal', item.signal,
    'state', item.state, 'outcome', item.outcome, 'worker', worker, 'token', item.token,
    'ended_at', at)
  redis.call('PEXPIRE', key, retention)
end

local function bury(item)
  local body = redis.call('XRANGE', SIGNALS, item.entry, item.entry)[1]
  local fields = body and body[2] or {}
  for _, part in ipairs(item.dead) do fields[#fields + 1] = part end
  redis.call('XADD', P .. 'dead', '*', unpack(fields))
end

local function commit(item)
  local key = P .. 'record:' .. item.signal
  local record = redis.call('HMGET', key, 'entry', 'digest', 'state', 'worker', 'token')
  if not held(item.entry, worker, item.token) then
    local mine = record[1] == item.entry and record[4] == worker and tonumber(record[5]) == item.token
    return {mine and 'committed' or 'fenced', false} -- ours: the first reply was lost
  end
  local status = verdict(item, record)
  if status == 'conflict' then return {status, false} end -- comes again as a dead letter
  if status == 'committed' and not item.duplicate then
    if item.position_key ~= '' then book(item) end
    for _, event in ipairs(item.events) do append(event[1], event, item.signal, limit) end
    if item.signal ~= '' then close_record(item, key) end
  end
  if item.dead then bury(item) end
  redis.call('ZREM', P .. 'unresolved', item.entry)
  local following = finish(item.entry)
  if not following then return {status, false} end
  local got = item.take_next and grant(following, worker, expires, 1)
  if not got then offer(following) end
  return {status, got or false}
end

local results = {}
for n = 5, #ARGV do results[n - 4] = commit(cmsgpack.unpack(ARGV[n])) end
return results
