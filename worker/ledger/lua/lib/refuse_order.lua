--- @include "put_field"
--- @include "end_resting"
-- Refuse an order by the code of the rule it breaks; `asked` is the question, so that it is answered the
-- same if it is put again. A close waits while the entry that rests for its position, of the signal
-- `holder`, is cancelled; where nothing of that had traded, it has come to its end.
local function refuse_order(code, id, asked, key, reservation, holder, signal)
  if code == STATUS.WAITS then return end_resting(id, key, holder, signal) end
  local ended = code == 'NO_POSITION' and string.match(entries[id][ENTRY.REFUSED], '^~(.+)$')
  if ended then return REFUSAL{STATUS = STATUS.ENDED, CODE = code, DETAIL = ended} end
  put_field(id, ENTRY.REFUSED, asked .. code)
  return REFUSAL{STATUS = STATUS.REFUSED, CODE = code,
    DETAIL = reservation == RESERVATION.RESTING and holder or ''}
end
