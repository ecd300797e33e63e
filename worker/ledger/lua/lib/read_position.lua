--- @include "keys"
-- Read a value of `book`: '{...}', 'opening s-1', 'closing s-1 {...}', 'resting s-1' or 'resting s-1 {...}'.
-- Returns the position (JSON, '' for none), the reservation ('opening', 'closing', 'resting', nil for
-- none), and the signal that has it.
local function read_position(raw)
  if not raw or raw == '' then return '' end
  if string.byte(raw) == 123 then return raw end -- {
  local reservation, signal, position = string.match(raw, '^(%a+) (%S+) ?(.*)$')
  return position, reservation, signal
end
