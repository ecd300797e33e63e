--- @include "call_many"
--- @finally "flush"
-- Entries of the signals stream, and the indexes over them. A script reads what it needs for all its
-- items at once, before its first write where reading may fail; what it changes is gathered here and
-- written once, at its end, by flush.lua.
local encode, decode = cmsgpack.pack, cmsgpack.unpack -- looked up once
-- The encoding of ''. Of the fields only the raw group may end in this byte, and it is the first, so
-- the end of the text tells which fields are empty.
local EMPTY = encode('')
local entries = {} -- by id: ENTRY, false where there is none; its TEXT is false once it has changed
local tails = {} -- by group: its last entry, or false
local changed, moved = {}, {} -- ids of entries and names of groups to be written
local finished = {} -- ids of entries to be forgotten
local regranted = {} -- of those, the ones granted more than once: they may have been parked
local leased, turned = {}, {} -- end and id of each lease to be written: of entries, of turns
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
