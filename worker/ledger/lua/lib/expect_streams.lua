--- @include "keys"
--- @include "fields_by_name"
-- Stop the script unless each of these streams, by short name, can take some thousand more entries: a
-- key of another type, or a stream that has had (almost) the largest id, would stop it half-way. Called
-- before the first write.
-- A commit does without, which would cost it more: `write_events` sees what becomes of each event.
local function expect_streams(...)
  for _, name in ipairs({...}) do
    if call('EXISTS', P .. name) == 1 then
      local info = fields_by_name(call('XINFO', 'STREAM', P .. name))
      local last = string.match(info['last-generated-id'], '^18446744073709551615%-(%d+)$')
      if last and #last == 20 and last >= '18446744073709550000' then
        error('the stream ' .. name .. ' has exhausted the last possible ID', 0)
      end
    end
  end
end
