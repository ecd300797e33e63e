#!lua flags=allow-oom
-- Sign a worker off: its announcement, its keeper's term, and its consumer if that owns nothing.
-- KEYS[1] {account}:signals
-- ARGV[1] worker: consumer name
-- Returns how many entries its consumer still owns
--- @include "keys"
local worker = ARGV[1]
call('HDEL', P .. 'workers', worker)
if call('GET', P .. 'keeper') == worker then call('DEL', P .. 'keeper', P .. 'said') end
local owned = #call('XPENDING', SIGNALS, GROUP, '-', '+', 1, worker)
if owned == 0 then call('XGROUP', 'DELCONSUMER', SIGNALS, GROUP, worker) end
return owned
