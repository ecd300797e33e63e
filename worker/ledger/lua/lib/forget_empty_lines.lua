--- @include "keys"
-- Forget lines of groups that have no entries: a worker of an earlier version does not count.
local function forget_empty_lines()
  local longest = call('ZRANGE', P .. 'lines', 0, 99, 'REV')
  for n = 1, #longest do
    local group = string.gsub(longest[n], '^%-', '')
    if not call('HGET', P .. 'entries', group) then call('ZREM', P .. 'lines', longest[n]) end
  end
end
