--- @include "entry_size"
--- @include "epoch"
-- Read new entries for `worker`, `want` at most and a few at a time, for their size is only known once
-- they are read. Reading ends where the reply is full; what is too large is buried and counts as well.
-- Returns the others, whether there may be more (1 or 0), and the id of the last one read.
local function read_new(worker, want)
  local new, last, portion = {}, nil, now_ms < wary_until_ms and 1 or LIMIT.PORTION
  while want > 0 and replied < LIMIT.REPLY_BYTES do
    local count = math.min(portion, want)
    local read = call('XREADGROUP', 'GROUP', GROUP, worker, 'COUNT', count, 'STREAMS', SIGNALS, '>')
    local bodies = read and read[1][2] or {}
    for n = 1, #bodies do
      local id, fields = bodies[n][1], bodies[n][2]
      local bytes, is_too_large = entry_size(fields)
      if not is_too_large then new[#new + 1], replied = bodies[n], replied + bytes
      else
        --- @include "oversize"
        if bury_oversize(id, fields, 1, worker) then call('XACK', SIGNALS, GROUP, id) end
      end
      last = id
    end
    if #bodies < count then return new, 0, last end
    want = want - count
  end
  return new, 1, last
end
