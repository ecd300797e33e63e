--- @include "indexes"
-- How many entries wait in each message group behind its head: openings, and others (closes and what
-- else makes a position no larger), each for itself. Groups where none waits cost nothing.

-- Return where a group's entries of a kind are counted.
local function line_of(group, kind) return kind == LINE.OTHER and '-' .. group or group end

local function line_length(line)
  if lines[line] == nil then lines[line] = tonumber(call('ZSCORE', P .. 'lines', line) or 0) end
  return lines[line]
end

local function change_line(line, change)
  lines[line], lines_changed[line] = math.max(line_length(line) + change, 0), true
end

-- Forget lines of groups that have no entries: a worker of an earlier version does not count.
local function forget_empty_lines()
  local longest = call('ZRANGE', P .. 'lines', 0, 99, 'REV')
  for n = 1, #longest do
    local group = string.gsub(longest[n], '^%-', '')
    if not call('HGET', P .. 'entries', group) then call('ZREM', P .. 'lines', longest[n]) end
  end
end
