-- Return a flat list of names and values, as XINFO has them, as a table.
local function by_name(info)
  local values = {}
  for n = 1, #info, 2 do values[info[n]] = info[n + 1] end
  return values
end
