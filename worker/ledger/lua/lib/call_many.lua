--- @include "keys"
-- Call a command with many arguments, a thousand at a time: a call takes at most about 8,000. Returns
-- the replies that are lists as one.
local function call_many(command, key, list)
  if #list <= 1000 then return #list > 0 and call(command, key, unpack(list)) or {} end
  local replies = {}
  for n = 1, #list, 1000 do
    local reply = call(command, key, unpack(list, n, math.min(n + 999, #list)))
    if type(reply) == 'table' then for m = 1, #reply do replies[#replies + 1] = reply[m] end end
  end
  return replies
end
