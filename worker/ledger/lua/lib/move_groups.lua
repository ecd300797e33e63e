--- @include "fields_by_name"
--- @include "new_id"
-- The consumer groups of a stream, made anew on its copy.

-- Return how many entries of a stream come after an id; nil if they are too many to count.
local function count_after(stream, id)
  local count, from = 0, '(' .. id
  while count < 20000 do
    local rows = call('XRANGE', stream, from, '+', 'COUNT', 16)
    count = count + #rows
    if #rows < 16 then return count end
    from = '(' .. rows[16][1]
  end
end

-- Make one group: where it has got to, and what is pending in it, for whom and since when.
local function move_group(stream, old, new, group)
  local row = call('XREVRANGE', old, group['last-delivered-id'], '-', 'COUNT', 1)[1]
  local last = row and (new_id(stream, row[1]) or row[1]) or '0-0'
  call('XGROUP', 'CREATE', new, group.name, last, 'MKSTREAM')
  local lag = group.lag or count_after(new, last)
  if lag then
    call('XGROUP', 'SETID', new, group.name, last, 'ENTRIESREAD', call('XLEN', new) - lag)
  end
  local from = '-'
  repeat
    local pending = call('XPENDING', old, group.name, from, '+', 1000)
    for _, one in ipairs(pending) do
      local id, consumer, idle_ms, deliveries = one[1], one[2], one[3], one[4]
      call('XCLAIM', new, group.name, consumer, 0, new_id(stream, id) or id, 'IDLE', idle_ms, 'RETRYCOUNT',
        deliveries, 'FORCE', 'JUSTID')
      from = '(' .. id
    end
  until #pending < 1000
end

-- Make every group of a stream, the key `old`, on its copy `new`.
local function move_groups(stream, old, new)
  for _, info in ipairs(call('XINFO', 'GROUPS', old)) do
    move_group(stream, old, new, fields_by_name(info))
  end
end
