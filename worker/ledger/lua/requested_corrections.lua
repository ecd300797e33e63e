-- Return some of the corrections that operators ask for; what is too large to be one is removed.
-- KEYS[1] {account}:signals
-- Returns {id, request as JSON ...}
--- @include "keys"
local MOST, LONGEST_ID, LONGEST = 16, 64, 8192
local key, found = P .. 'corrections', {}
for _, id in ipairs(call('HRANDFIELD', key, MOST)) do
  if #id > LONGEST_ID or call('HSTRLEN', key, id) > LONGEST then call('HDEL', key, id)
  else
    found[#found + 1] = id
    found[#found + 1] = call('HGET', key, id)
  end
end
return found
