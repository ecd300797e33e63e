-- Answer an operator's request for a correction that is not carried out.
-- KEYS[1] {account}:signals
-- ARGV[1] request: its id in `corrections`
-- ARGV[2] answer, JSON
-- Returns 1, 0 if the request is gone
--- @include "answer_correction"
if call('HEXISTS', P .. 'corrections', ARGV[1]) == 0 then return 0 end
answer_correction(ARGV[1], ARGV[2])
return 1
