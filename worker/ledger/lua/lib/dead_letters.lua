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

-- Return an entry's fields, or if they are too much for a dead letter their beginning, with one field
-- more that has the size of all.
local function beginning(fields)
  local kept, size = {}, 0
  for n = 1, #fields, 2 do
    local room = LIMIT.LETTER_BYTES - size
    if room > 0 and n < LIMIT.LETTER_PARTS then
      local field = string.sub(fields[n], 1, room)
      kept[n], kept[n + 1] = field, string.sub(fields[n + 1], 1, room - #field)
    end
    size = size + #fields[n] + #fields[n + 1]
  end
  if size > LIMIT.LETTER_BYTES or #kept < #fields then
    kept[#kept + 1], kept[#kept + 2] = LETTER.CUT, size
  end
  return kept
end

-- Write an entry to the stream of dead letters; `tail` is the columns of DEAD_LETTER.
local function bury(id, tail)
  local body = call('XRANGE', SIGNALS, id, id)[1]
  local fields = body and beginning(body[2]) or {}
  for _, part in ipairs(tail) do fields[#fields + 1] = part end
  call('XADD', P .. 'dead', '*', unpack(fields))
end
