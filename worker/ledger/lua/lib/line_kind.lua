--- @include "group_name"
-- The kinds of entries that may wait: LINE.
-- Return the kind of an entry with these fields. What cannot be read counts as an opening, which is
-- also what a signal without `action` is. Others are few: only they are decoded.
local function line_kind(fields)
  local data = ''
  for n = 1, #fields, 2 do if fields[n] == 'data' then data = fields[n + 1] end end
  local at = find(data, '"action"', 1, true)
  local is_escaped = find(data, '\\u', 1, true)
  local is_plain = not at or match(data, '^"action": ?"open"', at) and not find(data, '"action"', at + 1, true)
  if #data > 65536 or is_plain and not is_escaped then return LINE.OPENING end
  local ok, signal = pcall(cjson.decode, data)
  local action = ok and type(signal) == 'table' and signal.action
  local is_other = action == 'close' or action == 'cancel' or action == 'protect'
  return is_other and LINE.OTHER or LINE.OPENING
end
