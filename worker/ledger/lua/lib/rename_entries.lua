--- @include "indexes"
--- @include "find_record"
-- Entries of the signals that got a new id: everything in the ledger that names one follows.

-- Move a member of a sorted set, with its score.
local function rename_member(key, id, new_id)
  local score = call('ZSCORE', key, id)
  if not score then return end
  call('ZADD', key, score, new_id)
  call('ZREM', key, id)
end

-- Rename one entry in what is kept beside `entries`. Nobody holds it any more, for its holder knows
-- the old id; its lease runs on, so that no other worker gets it before that one has stopped.
local function rename_entry(id, new_id, entry)
  rename_member(P .. 'leases', id, new_id)
  rename_member(P .. 'unresolved', id, new_id)
  entry[ENTRY.WORKER] = ''
  local verdict = call('HGET', P .. 'verdicts', id)
  if verdict then
    call('HSET', P .. 'verdicts', new_id, verdict)
    call('HDEL', P .. 'verdicts', id)
  end
  local signal = entry[ENTRY.SIGNAL]
  local record = signal ~= '' and find_record(signal)
  if record and record[RECORD.ENTRY] == id then
    record[RECORD.ENTRY] = new_id
    call('SET', P .. 'record:' .. signal, encode(record), 'KEEPTTL')
  end
end

-- Rename every entry that `given` has a new id for.
local function rename_entries(given)
  local all = call('HGETALL', P .. 'entries')
  for n = 1, #all, 2 do
    local name, text = all[n], all[n + 1]
    if not string.find(name, '^%d') then -- a message group and its last entry
      if given[text] then tails[name], moved[#moved + 1] = given[text], name end
    else
      local entry = {false, decode(text)}
      local new_id, following = given[name], given[entry[ENTRY.FOLLOWING]]
      entry[ENTRY.FOLLOWING] = following or entry[ENTRY.FOLLOWING]
      if new_id then
        rename_entry(name, new_id, entry)
        call('HDEL', P .. 'entries', name)
      end
      if new_id or following then
        entries[new_id or name], changed[#changed + 1] = entry, new_id or name
      end
    end
  end
  for _, id in ipairs(call('LRANGE', P .. 'released', 0, -1)) do
    if given[id] then
      call('LREM', P .. 'released', 0, id)
      call('RPUSH', P .. 'released', given[id])
    end
  end
end
