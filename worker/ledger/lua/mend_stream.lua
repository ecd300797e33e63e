#!lua flags=allow-oom
-- Take a step in mending a stream whose last id is ahead of the clock: copy a portion of it, where an
-- entry with such an id gets one of now. The step that finds no more makes the groups anew, lets the
-- ledger follow and gives the copy the stream's name. A step that is repeated goes on from the last.
-- KEYS[1] {account}:signals
-- ARGV[1] name of the stream
-- ARGV[2] portion: how many entries to copy at most
-- ARGV[3] call: the same in every step of one mending, and in no other
-- ARGV[4] memory: ms for which the last step answers the same call as before
-- Returns MENDED
--- @include "stream_ahead"
--- @include "move_groups"
--- @include "rename_entries"
local PORTION_BYTES, MOST_PARTS = 8388608, 6000 -- a call takes at most about 8,000 arguments
local name, portion = ARGV[1], tonumber(ARGV[2])
local old, new, ids = P .. name, P .. 'mending:' .. name, P .. 'mending-ids:' .. name
local done = P .. 'mended:' .. name

local ahead_ms = stream_ahead(name)
local begun = call('HMGET', ids, 'limit', 'from')
local limit_ms, from = tonumber(begun[1] or nil), begun[2]
if not limit_ms then
  if ahead_ms <= LIMIT.AHEAD_MS then
    local copied, changed_ids, by = string.match(call('GET', done) or '', '^(%d+) (%d+) (.*)$')
    if by == ARGV[3] then -- asked again
      return MENDED{STATUS = MENDING.MENDED, ENTRIES = tonumber(copied),
        RENAMED = tonumber(changed_ids)}
    end
    return MENDED{STATUS = MENDING.SOUND, ENTRIES = 0, RENAMED = 0}
  end
  limit_ms, from = now_ms + LIMIT.AHEAD_MS, '-'
  call('DEL', new)
end

local copied, bytes, at_end = 0, 0, false
local renamed = {'limit', limit_ms}
while copied < portion and bytes < PORTION_BYTES and not at_end do
  local rows = call('XRANGE', old, from, '+', 'COUNT', 16)
  for _, row in ipairs(rows) do
    local id, fields = row[1], row[2]
    local is_ahead = tonumber(string.match(id, '^%d+')) > limit_ms
    local given = call('XADD', new, is_ahead and '*' or id,
      unpack(fields, 1, math.min(#fields, MOST_PARTS)))
    if given ~= id then renamed[#renamed + 1], renamed[#renamed + 2] = id, given end
    for n = 1, #fields do bytes = bytes + #fields[n] end
    copied, from = copied + 1, '(' .. id
  end
  at_end = #rows < 16
end
renamed[#renamed + 1], renamed[#renamed + 2] = 'from', from
call_many('HSET', ids, renamed)

local status, entries_renamed = MENDING.COPYING, call('HLEN', ids) - 2
if at_end then
  move_groups(name, old, new)
  if name == 'signals' and entries_renamed > 0 then rename_entries() end
  status = MENDING.MENDED
end
do
  --- @include "flush"
end
local entries_copied = call('XLEN', new)
if at_end then
  if call('EXISTS', new) == 1 then call('RENAME', new, old) else call('DEL', old) end
  call('DEL', ids)
  call('SET', done, entries_copied .. ' ' .. entries_renamed .. ' ' .. ARGV[3], 'PX', ARGV[4])
end
return MENDED{STATUS = status, ENTRIES = entries_copied, RENAMED = entries_renamed}
