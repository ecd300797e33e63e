#!lua flags=allow-oom
-- A person says what became of an unresolved order. The keeper acts on it the next time it asks, if
-- the exchange does not tell then either; a later decision replaces an earlier one.
-- ARGV: signal, verdict (JSON), event type, event id, event data, output length
-- Returns 'decided'; else the state the signal's record is in, '' for none, 'LOST' where a primary
-- was lost with it
local record, parked = record_of(ARGV[1])
if not record then return parked and 'LOST' or '' end
if not call('ZSCORE', P .. 'unresolved', record[ENTRY]) then return record[STATE] end
if call('HGET', P .. 'verdicts', record[ENTRY]) ~= ARGV[2] then
  call('HSET', P .. 'verdicts', record[ENTRY], ARGV[2])
  append('system', ARGV[3], ARGV[4], ARGV[5], ARGV[1])
  trim('system', ARGV[6])
end
return 'decided'
