--- @include "leave_line"
--- @include "grant"
--- @include "offer"
-- Hand on the next entry of a group, which heads it now: to `worker` if it is `wanted` there and the
-- reply has room, else to any. Returns its delivery if this worker has it.
local function hand_on(following, worker, expires, wanted)
  leave_line(following)
  if not entries[following] then return end
  local got = wanted and replied < LIMIT.REPLY_BYTES and grant(following, worker, expires, 1)
  if not got then offer(following) end
  return got
end
