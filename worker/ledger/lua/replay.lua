-- Put a dead letter's own fields back on the signals stream, byte for byte, and remove it.
-- KEYS[1] {account}:signals
-- ARGV[1] dead letter id
-- ARGV[2] signal id that must not have been used, '' for any
-- ARGV[3] memory: ms for which the answer stays the same
-- Returns REPLAY: replayed + new id, also when asked again within the memory; used + state; empty if
--   its own fields are gone; cut if it has only the beginning of its entry; absent
--- @include "find_record"
--- @include "expect_tail"
local id, signal = ARGV[1], ARGV[2]
local before = call('GET', P .. 'replayed:' .. id)
if before then return REPLAY{STATUS = 'replayed', DETAIL = before} end
local letter = call('XRANGE', P .. 'dead', id, id)[1]
if not letter then return REPLAY{STATUS = 'absent', DETAIL = ''} end
if signal ~= '' then
  local record = find_record(signal)
  if record then return REPLAY{STATUS = 'used', DETAIL = record[RECORD.STATE]} end
end
local fields, own = letter[2], {}
expect_tail(fields)
-- One that was cut has only the beginning of its entry.
if fields[#fields - TAIL_LENGTH - 1] == LETTER.CUT then return REPLAY{STATUS = 'cut', DETAIL = ''} end
for n = 1, #fields - TAIL_LENGTH do own[n] = fields[n] end
if #own == 0 then return REPLAY{STATUS = 'empty', DETAIL = ''} end
local added = call('XADD', SIGNALS, '*', unpack(own))
call('XDEL', P .. 'dead', id)
call('SET', P .. 'replayed:' .. id, added, 'PX', ARGV[3])
return REPLAY{STATUS = 'replayed', DETAIL = added}
