-- Write an event to the system stream; written again after a lost reply, it changes nothing.
-- KEYS[1] {account}:signals
-- ARGV[1] type of the event
-- ARGV[2] its id
-- ARGV[3] its data, JSON
-- ARGV[4] length: about how many entries an output stream keeps
-- Returns 1, 0 if the event is there already
--- @include "append_event"
--- @include "trim_stream"
for _, row in ipairs(call('XREVRANGE', P .. 'system', '+', '-', 'COUNT', 64)) do
  for n = 1, #row[2], 2 do
    if row[2][n] == 'id' and row[2][n + 1] == ARGV[2] then return 0 end
  end
end
append_event('system', ARGV[1], ARGV[2], ARGV[3], '')
trim('system', ARGV[4])
return 1
