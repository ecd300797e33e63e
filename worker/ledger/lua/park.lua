#!lua flags=allow-oom
-- Put an unresolved order into the keeper's care: no lease, still unacknowledged, its group waits.
-- KEYS[1] {account}:signals
-- ARGV[1] worker: consumer name
-- ARGV[2] entry id
-- ARGV[3] token
-- ARGV[4] signal id
-- ARGV[5] retry: ms until the keeper asks
-- ARGV[6] length: about how many entries an output stream keeps
-- ARGV[7] type of the event
-- ARGV[8] its id
-- ARGV[9] its data, JSON
-- Returns 1 if parked, 0 if the entry is no longer held
--- @include "clock"
--- @include "fence"
--- @include "put_field"
--- @include "find_record"
--- @include "expect_streams"
--- @include "append_event"
--- @include "trim_stream"
local worker, id, signal = ARGV[1], ARGV[2], ARGV[4]
read_entries({id})
if not passes_fence(id, worker, tonumber(ARGV[3])) then
  return call('ZSCORE', P .. 'unresolved', id) and 1 or 0
end
local _, record = find_record(signal)
record = record or {RECORD.values{ENTRY = '', DIGEST = '', SIGNAL = signal, STATE = STATE.ADMITTED,
  WORKER = worker, PLAN = '', ADMITTED_AT = 0, UNRESOLVED_SINCE = 0, POSITION = ''}}
local is_new = record[RECORD.UNRESOLVED_SINCE] == 0
if is_new then expect_streams('system') end
put_field(id, ENTRY.WORKER, '')
call('ZREM', P .. 'leases', id)
call('ZADD', P .. 'unresolved', now_ms + tonumber(ARGV[5]), id)
if is_new then
  record[RECORD.UNRESOLVED_SINCE] = now_ms
  call('SET', P .. 'record:' .. signal, encode(record))
  append_event('system', ARGV[7], ARGV[8], ARGV[9], signal)
  trim('system', ARGV[6])
end
do
  --- @include "flush"
end
return 1
