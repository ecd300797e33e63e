--- @include "keys"
-- End an operator's request for a correction, with an answer that is kept for a minute.
local function answer_correction(request, answer)
  call('HDEL', P .. 'corrections', request)
  call('SET', P .. 'corrected:' .. request, answer, 'PX', 60000)
end
