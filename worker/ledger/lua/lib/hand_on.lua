--- @include "grant"
--- @include "offer"
-- Hand on the next entry of a group, after the one that item `number` has ended: to `worker` if it is
-- `wanted` there and the reply has room, else to any.
local handing, handed = {}, {} -- numbers of items that handed on; id and delivery of those entries

local function hand_on(number, following, worker, expires, wanted)
  read_entries({following})
  if not entries[following] then return end
  local got = wanted and replied < LIMIT.REPLY_BYTES and grant(following, worker, expires, 1)
  if not got then return offer(following) end
  local count = #handing
  handing[count + 1], handed[2 * count + 1], handed[2 * count + 2] = number, following, got
end
