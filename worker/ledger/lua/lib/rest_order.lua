--- @include "book_rows"
--- @include "put_order"
--- @include "used_signal_ids"
-- Leave an admitted signal's order to turns, as COMMIT after fields[before] says: the order keeps what
-- admission reserved, the record its plan.
local function rest_order(fields, before)
  local key, signal = fields[before + COMMIT.POSITION_KEY], fields[before + COMMIT.SIGNAL]
  local position, rests = fields[before + COMMIT.POSITION] or '', fields[before + COMMIT.RESTS]
  book[key] = RESERVATION.RESTING .. ' ' .. signal .. (position ~= '' and ' ' or '') .. position
  touched[#touched + 1] = key
  local record = recorded(signal)
  record[RECORD.STATE] = STATE.RESTING
  call('SET', P .. 'record:' .. signal, encode(record))
  put_order(key, rests[RESTS.CLIENT_ORDER_ID], rests[RESTS.EXCHANGE_KEY], rests[RESTS.ROW],
    rests[RESTS.DUE_MS])
end
