#!lua flags=allow-oom
-- Change who asks for which trading state, if nobody else has changed it since it was read, and write
-- an event about it. Repeated after a lost reply, it changes nothing.
-- KEYS[1] {account}:signals
-- ARGV[1] the requests as they were read, JSON, '' for none
-- ARGV[2] the requests as they are to be, JSON
-- ARGV[3] trading state that follows
-- ARGV[4] reason
-- ARGV[5] actor: who asks for it
-- ARGV[6] at: since when (RFC 3339)
-- ARGV[7] type of the event
-- ARGV[8] its id
-- ARGV[9] its data, JSON
-- Returns 1 if it is so, 0 if somebody else was faster; an error where the event cannot be written, but
--   any other state than ACTIVE is in force then
--- @include "expect_streams"
--- @include "append_event"
--- @include "ring_bell"
local stored = call('HMGET', P .. 'control', 'event', 'asks')
if stored[1] == ARGV[8] then return 1 end -- repeated
if (stored[2] or '') ~= ARGV[1] then return 0 end
-- Trading can be stopped even where no event can be written.
local writable, problem = pcall(expect_streams, 'system')
problem = not writable and (problem.err or problem)
if problem and ARGV[3] == 'ACTIVE' then error(problem, 0) end
call('HSET', P .. 'control', 'event', ARGV[8], 'asks', ARGV[2], 'trading_state', ARGV[3],
  'reason', ARGV[4], 'actor', ARGV[5], 'at', ARGV[6])
ring_bell()
if problem then error('the trading state is ' .. ARGV[3] .. ' now, but without an event: ' .. problem, 0) end
append_event('system', ARGV[7], ARGV[8], ARGV[9], '')
return 1
