--- @include "call_many"
--- @include "add_to_number"
--- @finally flush()
-- Entries of the signals stream, and the indexes over them. A script reads what it needs for all its
-- items at once, before its first write where reading may fail; what it changes is gathered here and
-- written once, at its end, by `flush`.
local encode, decode = cmsgpack.pack, cmsgpack.unpack -- looked up once
-- The encoding of ''. Of the fields only the raw group may end in this byte, and it is the first, so
-- the end of the text tells which fields are empty.
local EMPTY = encode('')
local entries = {} -- by id: ENTRY, false where there is none; its TEXT is false once it has changed
local tails = {} -- by group: its last entry, or false
local changed, moved = {}, {} -- ids of entries and names of groups to be written
local finished = {} -- ids of entries to be forgotten
local regranted = {} -- of those, the ones granted more than once: they may have been parked
local leased = {} -- end and id of each lease to be written
local lines, lines_changed = {}, {} -- how many entries wait in a line (lines.lua), and which changed
local exposures = {} -- by quote currency: the change of the exposure, millionths

-- Read entries into `entries`, but for those that were read before.
local function read_entries(ids)
  local unknown = {}
  for n = 1, #ids do
    local id = ids[n]
    if entries[id] == nil then unknown[#unknown + 1], entries[id] = id, false end
  end
  local stored = call_many('HMGET', P .. 'entries', unknown)
  for n = 1, #unknown do
    if stored[n] then entries[unknown[n]] = {stored[n], decode(stored[n])} end
  end
end

local function flush()
  for n = 1, #finished, 1000 do
    call('XACK', SIGNALS, GROUP, unpack(finished, n, math.min(n + 999, #finished)))
  end
  call_many('ZADD', P .. 'leases', leased)
  call_many('ZREM', P .. 'leases', finished)
  call_many('ZREM', P .. 'unresolved', regranted)
  call_many('HDEL', P .. 'verdicts', regranted)
  local set, last, removed = {}, 0, finished
  for n = 1, #changed do
    local id = changed[n]
    local entry = entries[id]
    if entry then
      local text = entry[ENTRY.TEXT] or encode(unpack(entry, ENTRY.GROUP, ENTRY.SIZE))
      set[last + 1], set[last + 2] = id, text
      last = last + 2
    end
    entries[id] = nil -- so that an id listed twice is written once
  end
  for n = 1, #moved do
    local group = moved[n]
    local tail = tails[group]
    if tail then
      set[last + 1], set[last + 2] = group, tail
      last = last + 2
    else removed[#removed + 1] = group end
  end
  call_many('HDEL', P .. 'entries', removed)
  call_many('HSET', P .. 'entries', set)
  for line in pairs(lines_changed) do
    if lines[line] > 0 then call('ZADD', P .. 'lines', lines[line], line)
    else call('ZREM', P .. 'lines', line) end
  end
  for quote, change in pairs(exposures) do add_to_number(P .. 'totals', quote, change) end
end
