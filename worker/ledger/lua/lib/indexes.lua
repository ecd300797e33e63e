--- @include "bulk"
--- @include "counters"
--- @finally flush()
-- Entries of the signals stream, and the indexes over them. A script reads what it needs for all its
-- items at once, before its first write where reading may fail; what it changes is gathered here and
-- written once, at its end, by `flush`.
local encode, decode = cmsgpack.pack, cmsgpack.unpack -- looked up once
local EMPTY = encode('') -- one byte; only a group may end with it too, and that stands first
local entries = {} -- by id: ENTRY, false where there is none; its TEXT is false once it has changed
local tails = {} -- by group: its last entry, or false
local changed, moved = {}, {} -- ids of entries and names of groups to be written
local finished = {} -- ids of entries to be forgotten
local regranted = {} -- of those, the ones granted more than once: they may have been parked
local leased = {} -- end and id of each lease to be written
local exposures = {} -- by quote currency: the change of the exposure, millionths

-- Read entries, those of them that are not known yet.
local function know(ids)
  local unknown = {}
  for n = 1, #ids do
    local id = ids[n]
    if entries[id] == nil then unknown[#unknown + 1], entries[id] = id, false end
  end
  local stored = each('HMGET', P .. 'entries', unknown)
  for n = 1, #unknown do
    if stored[n] then entries[unknown[n]] = {stored[n], decode(stored[n])} end
  end
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
      local text = entry[ENTRY.TEXT] or encode(unpack(entry, ENTRY.GROUP, ENTRY.SIZE))
      set[last + 1], set[last + 2] = id, text
      last = last + 2
    end
    entries[id] = nil -- once is enough
  end
  for n = 1, #moved do
    local group = moved[n]
    local tail = tails[group]
    if tail then
      set[last + 1], set[last + 2] = group, tail
      last = last + 2
    else removed[#removed + 1] = group end
  end
  each('HDEL', P .. 'entries', removed)
  each('HSET', P .. 'entries', set)
  for quote, change in pairs(exposures) do add(P .. 'totals', quote, change) end
end
