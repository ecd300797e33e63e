#!lua flags=allow-oom
-- Put an unresolved order into the keeper's care: no lease, still unacknowledged, its group waits.
-- ARGV: worker, id, token, signal, retry in ms, output length, type, event id, event data
-- Returns 1 if parked, 0 if the entry is no longer held
local worker, id, signal = ARGV[1], ARGV[2], ARGV[4]
know({id})
if not held(id, worker, tonumber(ARGV[3])) then
  return call('ZSCORE', P .. 'unresolved', id) and 1 or 0
end
local at = now()
put(id, WORKER, '')
call('ZREM', P .. 'leases', id)
call('ZADD', P .. 'unresolved', at + tonumber(ARGV[5]), id)
local _, record = record_of(signal)
record = record or {'', '', signal, 'ADMITTED', worker, '', 0, 0, ''}
if record[DOUBTED] == 0 then
  record[DOUBTED] = at
  call('SET', P .. 'record:' .. signal, cmsgpack.pack(record))
  append('system', ARGV[7], ARGV[8], ARGV[9], signal)
  trim('system', ARGV[6])
end
flush()
return 1
