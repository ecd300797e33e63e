--- @include "keys"
-- Write an entry to the stream of dead letters; `tail` is the columns of DEAD_LETTER. Returns the error
-- if that takes none.
local function bury(id, tail)
  local body = call('XRANGE', SIGNALS, id, id)[1]
  local fields = body and body[2] or {}
  for _, part in ipairs(tail) do fields[#fields + 1] = part end
  local added = redis.pcall('XADD', P .. 'dead', '*', unpack(fields))
  return type(added) == 'table' and added
end
