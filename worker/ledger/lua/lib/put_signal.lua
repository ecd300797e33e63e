--- @include "indexes"
-- Note the signal that was admitted under a known entry. It is the last field and empty until then, and
-- mostly all that changes: it replaces the end of the text, for packing all fields anew costs more.
local function put_signal(id, signal)
  local entry = entries[id]
  local text = entry[ENTRY.SIGNAL] == '' and entry[ENTRY.TEXT]
  entry[ENTRY.SIGNAL], changed[#changed + 1] = signal, id
  entry[ENTRY.TEXT] = text and string.sub(text, 1, -2) .. encode(signal)
end
