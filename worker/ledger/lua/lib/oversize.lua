--- @include "clock"
--- @include "entry_size"
-- Entries that are too large. Each is read once: it becomes a dead letter with no more than its
-- beginning, and leaves the stream. A script that buried any calls `collectgarbage` at its end.

-- Bury an entry that is too large, on behalf of `worker`. Returns whether that could be done: if not it
-- stays on the stream, still pending.
local function bury_oversize(id, fields, deliveries, worker)
  -- A time, Unix milliseconds, as RFC 3339 in UTC ("chrono-Compatible Low-Level Date Algorithms",
  -- Hinnant: years are counted from March).
  local function rfc3339(ms)
    local days, rest = math.floor(ms / 86400000) + 719468, ms % 86400000
    local of_era = days % 146097
    local year = math.floor((of_era - math.floor(of_era / 1460) + math.floor(of_era / 36524)
      - math.floor(of_era / 146096)) / 365)
    local of_year = of_era - (365 * year + math.floor(year / 4) - math.floor(year / 100))
    local month = math.floor((5 * of_year + 2) / 153)
    local day = of_year - math.floor((153 * month + 2) / 5) + 1
    month = month < 10 and month + 3 or month - 9
    year = year + math.floor(days / 146097) * 400 + (month < 3 and 1 or 0)
    return string.format('%04d-%02d-%02dT%02d:%02d:%06.3fZ', year, month, day,
      math.floor(rest / 3600000), math.floor(rest / 60000) % 60, rest % 60000 / 1000)
  end

  local bytes, letter, left = entry_size(fields), {}, LIMIT.KEPT_BYTES
  replied = replied + bytes + LIMIT.FIELD_COST * #fields
  for n = 1, math.min(#fields, 2 * LIMIT.ENTRY_FIELDS) do
    if left <= 0 and n % 2 == 1 then break end
    letter[n] = string.sub(fields[n], 1, math.max(left, 0))
    left = left - #fields[n]
  end
  letter[#letter + 1], letter[#letter + 2] = LETTER.CUT, bytes
  local error = string.format(
    'entry too large: %.0f bytes in %d fields; it may have %d bytes in %d fields',
    bytes, #fields / 2, LIMIT.ENTRY_BYTES, LIMIT.ENTRY_FIELDS)
  local names, tail = {DEAD_LETTER.names}, DEAD_LETTER{REASON = LETTER.MALFORMED, ERROR = error,
    ENTRY_ID = id, DELIVERIES = deliveries, WORKER = worker, AT = rfc3339(now_ms)}
  for n = 1, #names do letter[#letter + 1], letter[#letter + 2] = names[n], tail[n] end
  local added = redis.pcall('XADD', P .. 'dead', '*', unpack(letter))
  if type(added) == 'table' then return false end -- an error
  redis.pcall('XDEL', SIGNALS, id) -- a user of an earlier version may not; it is acknowledged all the same
  if #oversize == 0 then call('HSET', P .. 'epoch', 'wary', now_ms + LIMIT.WARY_MS) end
  oversize[#oversize + 1], oversize[#oversize + 2] = id, error
  return true
end
