-- Become or remain the account's keeper, or give that up. What a keeper says lasts for its term.
-- ARGV: worker, term ms (0 resigns), what the keeper says to the others
-- Returns 1 if this worker is the keeper, else 0, and what the keeper has said
local worker, term, say = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local keeper = call('GET', P .. 'keeper')
if keeper and keeper ~= worker then return {0, call('GET', P .. 'said') or ''} end
if term == 0 then
  call('DEL', P .. 'keeper', P .. 'said')
  return {0, ''}
end
call('SET', P .. 'keeper', worker, 'PX', term)
call('SET', P .. 'said', say, 'PX', term)
return {1, say}
