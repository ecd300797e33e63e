--- @include "unpack_items"
-- Find the items of a commit in its fields: COMMIT of each, then as many EVENT as its last column
-- says. The record of each and the JSON of its events are in ARGV from `at_record`.
-- Returns for every item the index before its COMMIT, its entry's id, and the index of its record.
local function outcome_items(fields, at_record)
  local items, ids, records_at = {}, {}, {}
  local count, before = 0, 0
  while before < #fields do
    local events, tail = fields[before + COMMIT.EVENTS], fields[before + COMMIT.DEAD]
    if type(events) ~= 'number' then
      error('commit: item ' .. count + 1 .. ' does not have the COMMIT.SIZE fields of COMMIT', 0)
    end
    if tail then
      --- @include "expect_tail"
      expect_tail(tail)
    end
    count = count + 1
    items[count], ids[count], records_at[count] = before, fields[before + COMMIT.ENTRY], at_record
    before, at_record = before + COMMIT.SIZE + EVENT.SIZE * events, at_record + 1 + events
  end
  if before ~= #fields or at_record ~= #ARGV + 1 then
    error('commit: ' .. #fields .. ' fields and ' .. #ARGV .. ' arguments for ' .. count
      .. ' items of COMMIT.SIZE fields and EVENT.SIZE an event', 0)
  end
  return items, ids, records_at
end
