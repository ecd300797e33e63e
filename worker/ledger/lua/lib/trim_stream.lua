--- @include "output_streams"
-- Keep an output stream at about its length. Apart from what writes events: operators run scripts
-- that do, and may not trim.
local function trim(stream, length)
  call('XTRIM', STREAM[stream], 'MAXLEN', '~', length)
end
