-- Say something on the system stream.
-- ARGV: type, event id, event data, output length
append('system', {'system', ARGV[1], ARGV[2], ARGV[3]}, '', ARGV[4])
return 1
