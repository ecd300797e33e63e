#!lua flags=allow-oom
-- Make a position what a person says it really is.
-- KEYS[1] {account}:signals
-- ARGV[1] position key
-- ARGV[2] before: its position as it was, JSON
-- ARGV[3] after: as it is, '' for none
-- ARGV[4] quote currency
-- ARGV[5] exposure: its change, millionths of the quote currency
-- ARGV[6] profit: what was realised, millionths of the quote currency
-- ARGV[7] type of the event about the position
-- ARGV[8] its id
-- ARGV[9] its data, JSON
-- ARGV[10] type of the event for the system stream
-- ARGV[11] its id
-- ARGV[12] its data, JSON
-- ARGV[13] signal: the one that opened the position
-- ARGV[14] length: about how many entries an output stream keeps
-- ARGV[15] request: its id in `corrections`, '' for a correction that nobody asked for there
-- ARGV[16] answer to the request, JSON
-- ARGV[17] until when the request may be carried out, Unix ms
-- Returns 'corrected', also when asked again; 'busy' if a signal is working on it; 'changed' if it is
--   no longer as it was; 'withdrawn' if the request is gone; 'late' if nobody waits for it any more
--- @include "clock"
--- @include "read_position"
--- @include "book_profit"
--- @include "expect_streams"
--- @include "append_event"
--- @include "trim_stream"
--- @include "answer_correction"
local key, before, after, quote, exposure, profit =
  ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local request = ARGV[15]
if request ~= '' and call('HEXISTS', P .. 'corrections', request) == 0 then return 'withdrawn' end
local position, reservation = read_position(call('HGET', P .. 'book', key))
if reservation then return 'busy' end
if position == after then return 'corrected' end
if position ~= before then return 'changed' end
if request ~= '' and now_ms > tonumber(ARGV[17]) then return 'late' end
expect_streams('positions', 'system')
if after == '' then call('HDEL', P .. 'book', key) else call('HSET', P .. 'book', key, after) end
if exposure ~= '0' then add_to_number(P .. 'totals', quote, tonumber(exposure)) end
book_profit(quote, tonumber(profit))
append_event('positions', ARGV[7], ARGV[8], ARGV[9], ARGV[13])
append_event('system', ARGV[10], ARGV[11], ARGV[12], ARGV[13])
trim('positions', ARGV[14])
trim('system', ARGV[14])
if request ~= '' then answer_correction(request, ARGV[16]) end
return 'corrected'
