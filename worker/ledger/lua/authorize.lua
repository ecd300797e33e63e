-- Check again before orders are sent that each is still granted and the account may trade.
-- KEYS[1] {account}:signals
-- ARGV[1] worker: consumer name
-- ARGV[2...] AUTHORIZE of every order
-- Returns AUTHORIZATIONS
--- @include "fence"
--- @include "exchange_pause"
--- @include "trading_state"
local worker, ids = ARGV[1], {}
for before = 1, #ARGV - 1, AUTHORIZE.SIZE do ids[#ids + 1] = ARGV[before + AUTHORIZE.ENTRY] end
if #ARGV - 1 ~= AUTHORIZE.SIZE * #ids then
  error('authorize: ' .. #ARGV - 1 .. ' arguments for orders of AUTHORIZE.SIZE each', 0)
end
read_entries(ids)
local orders = {}
for n, id in ipairs(ids) do
  local before = 1 + AUTHORIZE.SIZE * (n - 1)
  -- Where the admission was lost with a primary, the entry comes again and is admitted anew.
  local ours = passes_fence(id, worker, tonumber(ARGV[before + AUTHORIZE.TOKEN]))
    and entries[id][ENTRY.SIGNAL] ~= ''
  -- Written again unchanged, so that waiting for replicas waits for the record's writes too.
  if ours then changed[#changed + 1] = id end
  orders[n] = AUTHORIZATION{HELD = ours and 1 or 0,
    PAUSE_MS = exchange_pause(ARGV[before + AUTHORIZE.EXCHANGE])}
end
do
  --- @include "flush"
end
return AUTHORIZATIONS{TRADING_STATE = trading_state, ORDERS = orders}
