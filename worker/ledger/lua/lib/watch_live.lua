--- @include "clock"
-- Make every position with a live order that neither the agenda nor a turn has due now. Returns how many
-- there were: there should be none.
local function watch_live()
  local stranded = 0
  for _, key in ipairs(call('HKEYS', P .. 'live')) do
    if not call('ZSCORE', P .. 'agenda', key) and not call('ZSCORE', P .. 'turns', '@' .. key) then
      call('ZADD', P .. 'agenda', now_ms, key)
      stranded = stranded + 1
    end
  end
  return stranded
end
