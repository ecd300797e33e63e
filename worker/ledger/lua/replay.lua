-- Put a dead letter's own fields back on the signals stream, byte for byte, and remove it.
-- ARGV: dead letter id, signal id that must not have been used ('' for any), memory ms
-- Returns {'replayed', new id}, also when asked again within the memory; {'used', state};
-- {'empty', ''} if its own fields are gone; or {'absent', ''}
local id, signal = ARGV[1], ARGV[2]
local before = call('GET', P .. 'replayed:' .. id)
if before then return {'replayed', before} end
local letter = call('XRANGE', P .. 'dead', id, id)[1]
if not letter then return {'absent', ''} end
if signal ~= '' then
  local record = record_of(signal)
  if record then return {'used', record[STATE]} end
end
-- What the worker added are the last six pairs (bury in commit.lua).
local fields = letter[2]
local own = {}
for n = 1, #fields - 12 do own[n] = fields[n] end
if #own == 0 then return {'empty', ''} end
local added = call('XADD', SIGNALS, '*', unpack(own))
call('XDEL', P .. 'dead', id)
call('SET', P .. 'replayed:' .. id, added, 'PX', ARGV[3])
return {'replayed', added}
