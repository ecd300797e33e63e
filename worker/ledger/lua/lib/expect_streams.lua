--- @include "keys"
--- @include "fields_by_name"
-- Stop the script unless each of these streams, by short name, can take another entry: a key of another
-- type, or a stream that has had the largest id, would stop it half-way. Called before the first write.
-- `write_events` has a cheaper look for commits, which does not see that id once its entry is deleted.
local function expect_streams(...)
  for _, name in ipairs({...}) do
    if call('EXISTS', P .. name) == 1 then
      local info = fields_by_name(call('XINFO', 'STREAM', P .. name))
      if info['last-generated-id'] == '18446744073709551615-18446744073709551615' then
        error('the stream ' .. name .. ' has exhausted the last possible ID', 0)
      end
    end
  end
end
