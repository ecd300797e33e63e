--- @include "reserve"
-- Write when orders were admitted, and forget those of more than a window ago.
for counter, times in pairs(admission_times) do
  local key = P .. counter
  call('ZREMRANGEBYSCORE', key, '-inf', now_ms - LIMIT.WINDOW_MS)
  call_many('ZADD', key, times)
  call('PEXPIRE', key, LIMIT.WINDOW_MS)
end
