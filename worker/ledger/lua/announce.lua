-- Say something on the system stream; said again after a lost reply, it changes nothing.
-- ARGV: type, event id, event data, output length
for _, entry in ipairs(call('XREVRANGE', P .. 'system', '+', '-', 'COUNT', 64)) do
  for n = 1, #entry[2], 2 do
    if entry[2][n] == 'id' and entry[2][n + 1] == ARGV[2] then return 0 end
  end
end
append('system', ARGV[1], ARGV[2], ARGV[3], '')
trim('system', ARGV[4])
return 1
