#!lua flags=allow-oom
-- Publish the keeper's sheet, which expires unless it is published again.
-- KEYS[1] {account}:signals
-- ARGV[1] worker: consumer name
-- ARGV[2] the sheet, JSON
-- ARGV[3] lifetime: ms
-- Returns 1, 0 if the worker is not the keeper
--- @include "clock"
if call('GET', P .. 'keeper') ~= ARGV[1] then return 0 end
call('SET', P .. 'sheet', now_ms .. ' ' .. ARGV[2], 'PX', ARGV[3])
return 1
