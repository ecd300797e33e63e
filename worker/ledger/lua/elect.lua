-- Become or remain the account's keeper, or resign. The keeper's readiness note lasts for its term.
-- KEYS[1] {account}:signals
-- ARGV[1] worker: consumer name
-- ARGV[2] term: ms, 0 to resign
-- ARGV[3] note: the readiness note of this worker, should it be the keeper
-- Returns ELECTION; the note is the keeper's
--- @include "keys"
local worker, term_ms, note = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local keeper = call('GET', P .. 'keeper')
if keeper and keeper ~= worker then
  return ELECTION{ELECTED = 0, NOTE = call('GET', P .. 'said') or ''}
end
if term_ms == 0 then
  call('DEL', P .. 'keeper', P .. 'said')
  return ELECTION{ELECTED = 0, NOTE = ''}
end
call('SET', P .. 'keeper', worker, 'PX', term_ms)
call('SET', P .. 'said', note, 'PX', term_ms)
return ELECTION{ELECTED = 1, NOTE = note}
