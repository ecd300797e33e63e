-- Read a value of `book`: '{...}', 'opening s-1' or 'closing s-1 {...}'.
-- Returns the position (JSON, '' for none), and the reservation ('opening', 'closing', nil for none).
local function read_position(raw)
  if not raw or raw == '' then return '' end
  if string.byte(raw) == 123 then return raw end -- {
  local reservation, position = string.match(raw, '^(%a+) %S+ ?(.*)$')
  return position, reservation
end
