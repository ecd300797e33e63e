#!lua flags=allow-oom
-- Look at the account's stored format, or take a step in bringing it up to the caller's. Nothing is
-- written while a worker may be alive that knows only an older one.
-- KEYS[1] {account}:signals
-- ARGV[1] format: the caller's, a whole number
-- ARGV[2] worker: consumer name
-- ARGV[3] lifetime: for how many ms a heartbeat tells of a worker that may be alive
-- ARGV[4] step: CONVERTING.LOOK, CONVERTING.ROWS, or CONVERTING.DONE once no row is left
-- ARGV[5...] CONVERSION of each row of the book to be converted; one that has changed is left alone
-- Returns STORED_FORMAT
--- @include "clock"
local format, step = tonumber(ARGV[1]), ARGV[4]
local stored = tonumber(call('HGET', P .. 'format', 'version') or 1) -- accounts did not say at first
if stored >= format then return STORED_FORMAT{VERSION = stored, OLDER = {}} end
local older, beats = {}, call('HGETALL', P .. 'workers')
for n = 1, #beats, 2 do
  local at, status = string.match(beats[n + 1], '^(%d+) (.*)$')
  local is_read, facts = pcall(cjson.decode, status or '')
  local knows = is_read and type(facts) == 'table' and tonumber(facts.format) or 1
  local silent = now_ms - (tonumber(at) or now_ms)
  if knows < format and silent <= tonumber(ARGV[3]) then
    older[#older + 1], older[#older + 2] = beats[n], silent
  end
end
if #older == 0 and step == CONVERTING.ROWS then
  for before = 4, #ARGV - 1, CONVERSION.SIZE do
    local key = ARGV[before + CONVERSION.POSITION_KEY]
    if call('HGET', P .. 'book', key) == ARGV[before + CONVERSION.BEFORE] then
      call('HSET', P .. 'book', key, ARGV[before + CONVERSION.AFTER])
    end
  end
elseif #older == 0 and step == CONVERTING.DONE then
  call('HSET', P .. 'format', 'version', format, 'at', now_ms, 'by', ARGV[2])
end
return STORED_FORMAT{VERSION = stored, OLDER = older}
