#!lua flags=allow-oom
-- Keep the dead letters within their bounds: remove the oldest, a portion a call.
-- KEYS[1] {account}:signals
-- ARGV[1] how many letters are kept at most
-- ARGV[2] how many bytes of memory they take at most
-- Returns LETTERS_TRIMMED
--- @include "clock"
local PORTION, PORTION_BYTES = 1000, 8388608
local dead = P .. 'dead'
local length = call('XLEN', dead)
local surplus = length - tonumber(ARGV[1])
local excess = (call('MEMORY', 'USAGE', dead, 'SAMPLES', 0) or 0) - tonumber(ARGV[2])
local letters, bytes, from, rows = 0, 0, '-', {true}

local function is_too_much() return letters < surplus or bytes < excess end

while is_too_much() and letters < PORTION and bytes < PORTION_BYTES and #rows > 0 do
  rows = call('XRANGE', dead, from, '+', 'COUNT', 8)
  for _, row in ipairs(rows) do
    if is_too_much() then
      for n = 1, #row[2] do bytes = bytes + #row[2][n] end
      letters, from = letters + 1, '(' .. row[1]
    end
  end
end
if letters > 0 then
  call('XTRIM', dead, 'MAXLEN', '=', length - letters)
  local noted = P .. 'letters-trimmed'
  call('HINCRBY', noted, 'letters', letters)
  call('HSET', noted, 'at', now_ms)
  call('EXPIRE', noted, 86400)
end
return LETTERS_TRIMMED{LETTERS = letters, BYTES = bytes, MORE = letters > 0 and is_too_much() and 1 or 0}
