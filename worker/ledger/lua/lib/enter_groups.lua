--- @include "group_name"
--- @include "indexes"
-- Message groups: entering new entries, each behind the last one of its group.

-- Add new entries (id and fields, as the stream has them), pending for `owner`, to their groups.
-- Each that is the head of its group is granted to `worker` under token 1 unless `worker` is ''.
-- Others wait, as long as fewer than `bound` of their kind do so in that group and, for openings, fewer
-- than `ceiling` more in all. What has no room is the surplus: each a group of its own.
-- Returns the heads, and the set of the ids of the surplus, which is part of them.
local function enter_groups(new, owner, worker, bound, ceiling)
  local names, unknown, last, heads, surplus = {}, {}, {}, {}, {}
  local may_wait, wait = false, nil
  for n = 1, #new do
    local name = group_name(new[n][1], new[n][2])
    names[n] = name
    if tails[name] == nil then unknown[#unknown + 1], tails[name] = name, false
    else may_wait = true end
  end
  local stored = call_many('HMGET', P .. 'entries', unknown)
  for n = 1, #unknown do
    if stored[n] then tails[unknown[n]], last[#last + 1] = stored[n], stored[n] end
  end
  read_entries(last)
  local times = worker ~= '' and 1 or 0
  local granted = encode(ENTRY.rest{OWNER = owner, WORKER = worker, TOKEN = times,
    DELIVERIES = times, REFUSED = '', FOLLOWING = '', SIGNAL = ''})
  if may_wait or #last > 0 then
    --- @include "put_following"
    --- @include "lines"
    --- @include "line_kind"
    -- Return what is to be stored of an entry that waits behind another; nil if there is no room.
    wait = function(id, name, fields, before)
      local kind = line_kind(fields)
      local line = (kind == LINE.OTHER and '-' or '') .. name
      if add_to_line(line, 0) >= bound or kind == LINE.OPENING and ceiling <= 0 then return nil end
      add_to_line(line, 1)
      ceiling = ceiling - 1
      put_following(before, id)
      return encode(ENTRY.rest{OWNER = owner, WORKER = '', TOKEN = 0, DELIVERIES = 0,
        REFUSED = kind, FOLLOWING = '', SIGNAL = ''})
    end
  end
  for n = 1, #new do
    local id, name = new[n][1], names[n]
    local before, rest = tails[name], granted
    if before and entries[before] then
      rest = wait(id, name, new[n][2], before)
      if not rest then name, surplus[id], rest = '!*' .. id, true, granted end
    end
    -- A new entry is known by its encoded text only.
    entries[id] = {encode(name) .. rest}
    changed[#changed + 1], tails[name], moved[#moved + 1] = id, id, name
    if rest == granted then heads[#heads + 1] = new[n] end
  end
  return heads, surplus
end
