--- @include "indexes"
-- How many entries wait in each message group behind its head: openings under the group's name, others
-- (closes and what else makes a position no larger) with a `-` before it. Groups where none waits cost
-- nothing.

-- Change the length of a line by so many, and return it.
local function add_to_line(line, change)
  local length = lines[line] or tonumber(call('ZSCORE', P .. 'lines', line) or 0)
  lines[line] = math.max(length + change, 0)
  if change ~= 0 then lines_changed[line] = true end
  return lines[line]
end
