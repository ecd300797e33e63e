--- @include "clock"
--- @include "entry_size"
-- Entries that are too large. Each is read once: it becomes a dead letter with no more than its
-- beginning, and leaves the stream.
local oversize = {} -- id and error of each

-- Return a time, Unix milliseconds, as RFC 3339 in UTC ("chrono-Compatible Low-Level Date Algorithms",
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

-- Bury an entry that is too large, on behalf of `worker`. Returns whether that could be done: if not it
-- stays on the stream, still pending.
local function bury_oversize(id, fields, deliveries, worker)
  local bytes = entry_size(fields)
  replied = replied + bytes + LIMIT.FIELD_COST * #fields
  local error = string.format('entry too large: %.0f bytes in %d fields; it may have %d bytes in %d fields',
    bytes, #fields / 2, LIMIT.ENTRY_BYTES, LIMIT.ENTRY_FIELDS)
  local letter, names = beginning(fields, LIMIT.KEPT_BYTES), {DEAD_LETTER.names}
  local tail = DEAD_LETTER{REASON = LETTER.MALFORMED, ERROR = error, ENTRY_ID = id,
    DELIVERIES = deliveries, WORKER = worker, AT = rfc3339(now_ms)}
  for n = 1, #names do letter[#letter + 1], letter[#letter + 2] = names[n], tail[n] end
  local added = redis.pcall('XADD', P .. 'dead', '*', unpack(letter))
  if type(added) == 'table' then return false end -- an error
  redis.pcall('XDEL', SIGNALS, id) -- a user of an earlier version may not; it is acknowledged all the same
  oversize[#oversize + 1], oversize[#oversize + 2] = id, error
  return true
end

-- Where there were any: read new entries one by one for a while, and give the memory back.
local function end_oversize()
  if #oversize == 0 then return end
  call('SET', P .. 'wary', '1', 'PX', LIMIT.WARY_MS)
  pcall(collectgarbage)
end
