-- Keep house: register orphaned entries, trim what every group has acknowledged, remove consumers that
-- are gone, and a bell that may not ring.
-- KEYS[1] {account}:signals
-- ARGV[1] lease: ms
-- ARGV[2] retention: ms for which a signal stays on its stream
-- ARGV[3] start: where to look for orphans, as XPENDING takes it; '-' for the beginning
-- ARGV[4] count: how many pending entries to look at
-- Returns SWEPT; its NEXT is where to go on looking, '' if everything was looked at
--- @include "clock"
--- @include "enter_groups"
--- @include "oversize"
--- @include "forget_empty_lines"
--- @include "offer"
--- @include "is_before"
--- @include "fields_by_name"
--- @include "stream_ahead"
--- @include "watch_live"
local orphans, removed = 0, 0
local pending = call('XPENDING', SIGNALS, GROUP, 'IDLE', ARGV[1], ARGV[3], '+', ARGV[4])
local ids, go_on = {}, ''
if #pending == tonumber(ARGV[4]) then go_on = '(' .. pending[#pending][1] end
for n, row in ipairs(pending) do ids[n] = row[1] end
read_entries(ids)
local heads, gone = {}, {}
for n, id in ipairs(ids) do
  if replied >= LIMIT.REPLY_BYTES then
    go_on = id
    break
  end
  if not entries[id] then
    local body, owner = call('XRANGE', SIGNALS, id, id)[1], pending[n][2]
    local _, is_too_large = entry_size(body and body[2] or {})
    orphans = orphans + 1
    if not body then gone[#gone + 1] = id
    elseif is_too_large then
      if bury_oversize(id, body[2], pending[n][4], owner) then gone[#gone + 1] = id end
    elseif enter_groups({body}, owner, '', math.huge, math.huge)[1] then heads[#heads + 1] = id end
  end
end
for _, id in ipairs(heads) do offer(id) end
for _, id in ipairs(gone) do call('XACK', SIGNALS, GROUP, id) end
do
  --- @include "flush"
end

local kept_from = string.format('%.0f-0', math.max(now_ms - tonumber(ARGV[2]), 0))
local floor -- the oldest entry that some group has not acknowledged, or the last that all have
for _, info in ipairs(call('XINFO', 'GROUPS', SIGNALS)) do
  local group = fields_by_name(info)
  local oldest = call('XPENDING', SIGNALS, group.name)[2] or group['last-delivered-id']
  if not floor or is_before(oldest, floor) then floor = oldest end
end
-- An id ahead of the clock tells no age. Such entries are behind all others; they stay for as long as
-- one before them has to, and what is acknowledged goes after that.
local has_young = #call('XRANGE', SIGNALS, kept_from, now_ms + LIMIT.AHEAD_MS, 'COUNT', 1) > 0
if has_young and is_before(kept_from, floor) then floor = kept_from end
local trimmed = call('XTRIM', SIGNALS, 'MINID', '~', floor)

if stream_ahead('bell') > LIMIT.AHEAD_MS then call('DEL', P .. 'bell') end

local workers = call('HGETALL', P .. 'workers')
local alive = {}
for n = 1, #workers, 2 do
  if now_ms - tonumber(string.match(workers[n + 1], '^%d+')) < 60000 then alive[workers[n]] = true
  else call('HDEL', P .. 'workers', workers[n]) end
end
for _, info in ipairs(call('XINFO', 'CONSUMERS', SIGNALS, GROUP)) do
  local consumer = fields_by_name(info)
  if consumer.pending == 0 and consumer.idle > 60000 and not alive[consumer.name] then
    call('XGROUP', 'DELCONSUMER', SIGNALS, GROUP, consumer.name)
    removed = removed + 1
  end
end
local stranded = watch_live()
forget_empty_lines()
if #oversize > 0 then pcall(collectgarbage) end
return SWEPT{ORPHANS = orphans, TRIMMED = trimmed, CONSUMERS_REMOVED = removed,
  STRANDED = stranded, OVERSIZE = oversize, NEXT = go_on}
