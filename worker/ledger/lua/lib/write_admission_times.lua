--- @include "clock"
--- @include "call_many"
-- Write when orders were admitted (times and entry ids in turn, by counter), and forget what was more
-- than a window ago.
local function write_admission_times(admission_times)
  for counter, times in pairs(admission_times) do
    local key = P .. counter
    call('ZREMRANGEBYSCORE', key, '-inf', now_ms - LIMIT.WINDOW_MS)
    call_many('ZADD', key, times)
    call('PEXPIRE', key, LIMIT.WINDOW_MS)
  end
end
