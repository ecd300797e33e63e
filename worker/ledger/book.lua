-- The open positions, and what is being changed at this moment.
-- Returns {{position, JSON ...}, {position ...}}
local busy = redis.call('HKEYS', P .. 'opening')
for _, position in ipairs(redis.call('HKEYS', P .. 'closing')) do busy[#busy + 1] = position end
return {redis.call('HGETALL', P .. 'book'), busy}
