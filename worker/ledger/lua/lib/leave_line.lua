--- @include "lines"
--- @include "put_field"

-- Return the line that an entry waits in, nil for none; its length has been read.
local function read_line(id)
  local entry = entries[id]
  local kind = entry and entry[ENTRY.REFUSED]
  if kind ~= LINE.OPENING and kind ~= LINE.OTHER then return nil end
  local line = line_of(entry[ENTRY.GROUP], kind)
  line_length(line)
  return line
end

-- Note that an entry heads its group now.
local function leave_line(id)
  read_entries({id})
  local line = read_line(id)
  if not line then return end
  change_line(line, -1)
  put_field(id, ENTRY.REFUSED, '')
end
