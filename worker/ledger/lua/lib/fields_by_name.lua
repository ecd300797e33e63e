-- Return names and values in turn, as XINFO has them, as a table by name.
local function fields_by_name(info)
  local values = {}
  for n = 1, #info, 2 do values[info[n]] = info[n + 1] end
  return values
end
