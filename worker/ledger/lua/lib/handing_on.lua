--- @include "grants"
--- @include "offers"
local handing, handed = {}, {} -- the items that handed an entry on; of these entries id and delivery

-- Hand on the entry behind one that item `number` has ended: to `worker` if it is wanted there, else
-- to any.
local function hand_on(number, following, worker, expires, wanted)
  know({following})
  if not entries[following] then return end
  local got = wanted and grant(following, worker, expires, 1)
  if not got then return offer(following) end
  local count = #handing
  handing[count + 1], handed[2 * count + 1], handed[2 * count + 2] = number, following, got
end
