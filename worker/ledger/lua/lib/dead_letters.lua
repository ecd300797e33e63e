--- @include "keys"
-- Dead letters: an entry's own fields, byte for byte, then the name and value of each column of
-- DEAD_LETTER.
local TAIL_LENGTH = 2 * DEAD_LETTER.SIZE

-- Stop the script unless a list ends with the columns of DEAD_LETTER.
local function expect_tail(fields)
  for n, name in ipairs({DEAD_LETTER.names}) do
    if fields[#fields - TAIL_LENGTH + 2 * n - 1] ~= name then
      error('a dead letter does not end with the fields that layouts.py names: ' .. name, 0)
    end
  end
end

-- Return whether a dead letter has only the beginning of its entry.
local function is_cut(fields)
  return fields[#fields - TAIL_LENGTH - 1] == LETTER.CUT
end

-- Write an entry to the stream of dead letters; `tail` is the columns of DEAD_LETTER.
local function bury(id, tail)
  local body = call('XRANGE', SIGNALS, id, id)[1]
  local fields = body and body[2] or {}
  for _, part in ipairs(tail) do fields[#fields + 1] = part end
  call('XADD', P .. 'dead', '*', unpack(fields))
end
