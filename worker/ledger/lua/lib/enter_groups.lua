--- @include "group_name"
--- @include "put_field"
--- @include "lines"
--- @include "line_kind"
-- Message groups: entering new entries, each behind the last one of its group.

-- Note the entry behind another. The last two fields are empty at first, and this one is mostly the
-- first that changes: it replaces the end of the text, for packing all fields anew costs more.
local function put_following(id, following)
  local text = entries[id][ENTRY.TEXT]
  put_field(id, ENTRY.FOLLOWING, following)
  if text and string.sub(text, -2) == EMPTY .. EMPTY then
    entries[id][ENTRY.TEXT] = string.sub(text, 1, -3) .. encode(following) .. EMPTY
  end
end

-- Add new entries (id and fields, as the stream has them), pending for `owner`, to their groups.
-- Each that is the head of its group is granted to `worker` under token 1 unless `worker` is ''.
-- Others wait, as long as fewer than `bound` of their kind do so in that group and, for openings, fewer
-- than `ceiling` more in all. What has no room is the surplus: each a group of its own.
-- Returns the heads, and the set of the ids of the surplus, which is part of them.
local function enter_groups(new, owner, worker, bound, ceiling)
  local names, unknown, last, heads, surplus = {}, {}, {}, {}, {}
  for n = 1, #new do
    local name = group_name(new[n][1], new[n][2])
    names[n] = name
    if tails[name] == nil then unknown[#unknown + 1], tails[name] = name, false end
  end
  local stored = call_many('HMGET', P .. 'entries', unknown)
  for n = 1, #unknown do
    if stored[n] then tails[unknown[n]], last[#last + 1] = stored[n], stored[n] end
  end
  read_entries(last)
  local times = worker ~= '' and 1 or 0
  local granted = encode(ENTRY.rest{OWNER = owner, WORKER = worker, TOKEN = times,
    DELIVERIES = times, REFUSED = '', FOLLOWING = '', SIGNAL = ''})
  for n = 1, #new do
    local id, name = new[n][1], names[n]
    local before, rest = tails[name], granted
    if before and entries[before] then
      local kind = line_kind(new[n][2])
      local line = (kind == LINE.OTHER and '-' or '') .. name
      if add_to_line(line, 0) >= bound or kind == LINE.OPENING and ceiling <= 0 then
        name, surplus[id] = '!*' .. id, true
      else
        add_to_line(line, 1)
        ceiling = ceiling - 1
        put_following(before, id)
        rest = encode(ENTRY.rest{OWNER = owner, WORKER = '', TOKEN = 0, DELIVERIES = 0,
          REFUSED = kind, FOLLOWING = '', SIGNAL = ''})
      end
    end
    -- A new entry is known by its encoded text only.
    entries[id] = {encode(name) .. rest}
    changed[#changed + 1], tails[name], moved[#moved + 1] = id, id, name
    if rest == granted then heads[#heads + 1] = new[n] end
  end
  return heads, surplus
end
