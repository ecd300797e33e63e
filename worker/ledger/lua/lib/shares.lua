--- @include "clock"
-- Note that a worker uses budgets, for as long as a lease; return of each, in turn, how many live
-- workers use it, and how many of these come before this one.
local function shares(names, worker, lease_ms)
  local found = {}
  for name in string.gmatch(names, '%S+') do
    local key = P .. 'budget:' .. name
    call('ZADD', key, now_ms, worker)
    call('ZREMRANGEBYSCORE', key, '-inf', now_ms - lease_ms)
    call('PEXPIRE', key, lease_ms)
    local workers, before = call('ZRANGE', key, 0, -1), 0
    for n = 1, #workers do
      if workers[n] < worker then before = before + 1 end
    end
    found[#found + 1] = #workers
    found[#found + 1] = before
  end
  return found
end
