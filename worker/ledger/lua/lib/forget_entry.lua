--- @include "indexes"
-- Forget an entry that has ended. Returns the id of the one that now heads its group, for `leave_line`,
-- or nil.
local function forget_entry(id)
  local entry = entries[id]
  local group, following = entry[ENTRY.GROUP], entry[ENTRY.FOLLOWING]
  finished[#finished + 1], entries[id] = id, false
  if entry[ENTRY.TOKEN] ~= 1 then regranted[#regranted + 1] = id end
  if following ~= '' then return following end
  tails[group], moved[#moved + 1] = false, group
end
