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
