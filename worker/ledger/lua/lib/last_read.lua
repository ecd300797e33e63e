--- @include "fields_by_name"
-- Return the id of the last entry that the group has read: XINFO GROUPS tells it without a body.
local function last_read()
  for _, info in ipairs(call('XINFO', 'GROUPS', SIGNALS)) do
    local group = fields_by_name(info)
    if group.name == GROUP then return group['last-delivered-id'] end
  end
end
