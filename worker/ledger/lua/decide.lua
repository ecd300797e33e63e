#!lua flags=allow-oom
-- Store what a person says became of an unresolved order. The keeper acts on it the next time it asks,
-- if the exchange does not tell then either; a later decision replaces an earlier one.
-- KEYS[1] {account}:signals
-- ARGV[1] signal id
-- ARGV[2] verdict, JSON
-- ARGV[3] type of the event
-- ARGV[4] its id
-- ARGV[5] its data, JSON
-- Returns 'decided'; else the state of the signal's record, '' for none, 'LOST' where the admission
--   was lost with a primary
--- @include "find_record"
--- @include "expect_streams"
--- @include "append_event"
local record, parked = find_record(ARGV[1])
if not record then return parked and 'LOST' or '' end
local id = record[RECORD.ENTRY]
if not call('ZSCORE', P .. 'unresolved', id) then return record[RECORD.STATE] end
if call('HGET', P .. 'verdicts', id) ~= ARGV[2] then
  expect_streams('system')
  call('HSET', P .. 'verdicts', id, ARGV[2])
  append_event('system', ARGV[3], ARGV[4], ARGV[5], ARGV[1])
end
return 'decided'
