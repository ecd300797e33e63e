-- Return whether one stream id comes before another. Their numbers may have 20 digits, more than a
-- number of Lua holds; they are written without zeros in front.
local function is_before(a, b)
  local a_ms, a_number = string.match(a, '(%d+)-(%d+)')
  local b_ms, b_number = string.match(b, '(%d+)-(%d+)')
  if a_ms == b_ms then a_ms, b_ms = a_number, b_number end
  if #a_ms ~= #b_ms then return #a_ms < #b_ms end
  return a_ms < b_ms
end
