#!lua flags=allow-oom
-- Write what a turn has found out about a live order: row, position, exposure and events in one step,
-- with the signal's record if the order is over. Asked again, it changes nothing.
-- KEYS[1] {account}:signals
-- ARGV[1] worker: consumer name
-- ARGV[2] turn: its id
-- ARGV[3] token
-- ARGV[4] length: about how many entries an output stream keeps
-- ARGV[5] before: the position's line in the book, as the turn was given it
-- ARGV[6] position: as it is now, JSON, '' for none
-- ARGV[7] quote currency
-- ARGV[8] exposure: its change, millionths of the quote currency
-- ARGV[9] profit: what was realised, millionths of the quote currency
-- ARGV[10] signal: whose order it is
-- ARGV[11] client order id
-- ARGV[12] exchange key: its field in the index by exchange id
-- ARGV[13] row: the order's, '' if it is over
-- ARGV[14] due: ms until somebody has to look at it again
-- ARGV[15] record: as far as the worker knows it, of an order that is over
-- ARGV[16] keep: ms for which the record is kept
-- ARGV[17...] of each event its stream, type, id and data (JSON)
-- Returns 'committed'; 'fenced' if the turn is no longer held; 'changed' if the book is not as it was
--- @include "clock"
--- @include "fence"
--- @include "expect_streams"
--- @include "append_event"
--- @include "trim_stream"
--- @include "book_profit"
--- @include "change_exposure"
local worker, id, token, before, position = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[5], ARGV[6]
local quote, signal, client_id, exchange_key, row = ARGV[7], ARGV[10], ARGV[11], ARGV[12], ARGV[13]
local key, applied = string.sub(id, 2), P .. 'applied:' .. ARGV[3]
read_entries({id})
if not passes_fence(id, worker, token) then
  return call('EXISTS', applied) == 1 and STATUS.COMMITTED or STATUS.FENCED
end
if (call('HGET', P .. 'book', key) or '') ~= before then return STATUS.CHANGED end
expect_streams('orders', 'positions', 'system')
--- @include "put_order"
--- @include "forget_order"
--- @include "end_turn"
if row ~= '' then
  call('HSET', P .. 'book', key, RESERVATION.RESTING .. ' ' .. signal
    .. (position ~= '' and ' ' or '') .. position)
  end_turn(id)
  put_order(key, client_id, exchange_key, row, tonumber(ARGV[14]))
else
  if position == '' then call('HDEL', P .. 'book', key) else call('HSET', P .. 'book', key, position) end
  end_turn(id)
  if forget_order(key, client_id, exchange_key) then call('ZADD', P .. 'agenda', 'LT', now_ms, key)
  else call('ZREM', P .. 'agenda', key) end
  call('DEL', P .. 'cancel:' .. signal)
  call('SET', P .. 'record:' .. signal, ARGV[15] .. encode(RECORD.rest{ENDED_AT = now_ms}), 'PX', ARGV[16])
end
change_exposure(quote, tonumber(ARGV[8]))
book_profit(quote, tonumber(ARGV[9]))
local grown = {}
for n = 17, #ARGV, 4 do
  append_event(ARGV[n], ARGV[n + 1], ARGV[n + 2], ARGV[n + 3], signal)
  grown[ARGV[n]] = true
end
for stream in pairs(grown) do trim(stream, ARGV[4]) end
call('SET', applied, '1', 'PX', 60000)
do
  --- @include "flush"
end
return STATUS.COMMITTED
