-- Read the packed fields of a call's items (items.py). They fill as many arguments as ARGV[at] says,
-- for a script can take only so many values apart at once.
-- Returns the values one behind the other, and the index of the argument after them.
local function unpacked(at)
  local last = at + ARGV[at]
  local values = {cmsgpack.unpack(ARGV[at + 1])}
  for part = at + 2, last do
    for _, value in ipairs({cmsgpack.unpack(ARGV[part])}) do values[#values + 1] = value end
  end
  return values, last + 1
end
