-- Unpack the fields of a call's items (items.py). They come in several arguments, for a call can
-- unpack only so many values at once: ARGV[at] is their number.
-- Returns the values one behind the other, and the index of the argument after them.
local function unpack_items(at)
  local last = at + ARGV[at]
  local values = last > at and {cmsgpack.unpack(ARGV[at + 1])} or {}
  for part = at + 2, last do
    for _, value in ipairs({cmsgpack.unpack(ARGV[part])}) do values[#values + 1] = value end
  end
  return values, last + 1
end
