-- Become or remain the account's keeper.
-- ARGV: worker, term ms
-- Returns 1 if this worker is the keeper
local keeper = redis.call('GET', P .. 'keeper')
if keeper and keeper ~= ARGV[1] then return 0 end
redis.call('SET', P .. 'keeper', ARGV[1], 'PX', ARGV[2])
return 1
