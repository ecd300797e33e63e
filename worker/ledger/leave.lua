#!lua flags=allow-oom
-- Sign a worker off: its announcement, its keeper's term, and its consumer if that owns nothing.
-- ARGV: worker
-- Returns how many entries its consumer still owns
local worker = ARGV[1]
redis.call('HDEL', P .. 'workers', worker)
if redis.call('GET', P .. 'keeper') == worker then redis.call('DEL', P .. 'keeper', P .. 'said') end
local owned = #redis.call('XPENDING', SIGNALS, GROUP, '-', '+', 1, worker)
if owned == 0 then redis.call('XGROUP', 'DELCONSUMER', SIGNALS, GROUP, worker) end
return owned
