--- @include "turn_row"
--- @include "lease"
--- @include "end_turn"
--- @include "read_position"
-- Grant turns to `worker`: those whose holder's lease has run out, then positions whose time has come.
-- A turn has the fence and lease of an entry, but its token is higher than any given before, also by
-- an earlier primary (the time sees to that), for nothing of a turn is kept once it is over.
-- Returns ids and turns (TURN) as a list, for a reply.
local function take_turns(worker, expires, room)
  local turns = {}
  local token = tonumber(call('GET', P .. 'turn-token') or 0)
  local function take(id, deliveries, overdue_ms)
    local key = string.sub(id, 2)
    local _, reservation = read_position(call('HGET', P .. 'book', key))
    if reservation ~= RESERVATION.RESTING then return end_turn(id) end
    token = math.max(token + 1, now_ms)
    entries[id] = ENTRY{TEXT = false, GROUP = id, OWNER = worker, WORKER = worker, TOKEN = token,
      DELIVERIES = deliveries, REFUSED = '', FOLLOWING = '', SIGNAL = id}
    changed[#changed + 1] = id
    lease(id, expires)
    turns[#turns + 1], turns[#turns + 2] = id, turn_row(id, overdue_ms)
  end

  local ended = call('ZRANGEBYSCORE', P .. 'turns', '-inf', now_ms, 'WITHSCORES', 'LIMIT', 0, room)
  for n = 1, #ended, 2 do
    local id = ended[n]
    read_entries({id})
    take(id, entries[id] and entries[id][ENTRY.DELIVERIES] + 1 or 1, now_ms - tonumber(ended[n + 1]))
  end
  -- For those whose turn runs a hint may have come, which is granted once that is over: they stand
  -- before others and take no room.
  local most = room - #ended / 2 + call('ZCARD', P .. 'turns')
  local due = call('ZRANGEBYSCORE', P .. 'agenda', '-inf', now_ms, 'LIMIT', 0, most)
  for _, key in ipairs(due) do
    if #turns >= 2 * room or replied >= LIMIT.REPLY_BYTES then break end
    local id = '@' .. key
    if not call('ZSCORE', P .. 'turns', id) then
      call('ZREM', P .. 'agenda', key)
      take(id, 1, 0)
    end
  end
  if #turns > 0 then call('SET', P .. 'turn-token', string.format('%.0f', token)) end
  return turns
end
