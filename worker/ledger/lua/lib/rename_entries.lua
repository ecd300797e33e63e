--- @include "indexes"
--- @include "new_id"
--- @include "find_record"
-- Entries of the signals that got a new id: everything in the ledger that names one follows.

-- Move a member of a sorted set, with its score.
local function rename_member(key, id, renamed)
  local score = call('ZSCORE', key, id)
  if not score then return end
  call('ZADD', key, score, renamed)
  call('ZREM', key, id)
end

-- Rename one entry in what is kept beside `entries`. Nobody holds it any more, for its holder knows
-- the old id; its lease runs on, so that no other worker gets it before that one has stopped.
local function rename_entry(id, renamed, entry)
  rename_member(P .. 'leases', id, renamed)
  rename_member(P .. 'unresolved', id, renamed)
  entry[ENTRY.WORKER] = ''
  local verdict = call('HGET', P .. 'verdicts', id)
  if verdict then
    call('HSET', P .. 'verdicts', renamed, verdict)
    call('HDEL', P .. 'verdicts', id)
  end
  local signal = entry[ENTRY.SIGNAL]
  local record = signal ~= '' and find_record(signal)
  if record and record[RECORD.ENTRY] == id then
    record[RECORD.ENTRY] = renamed
    call('SET', P .. 'record:' .. signal, encode(record), 'KEEPTTL')
  end
end

-- Rename every entry of the signals that got a new id.
local function rename_entries()
  local all = call('HGETALL', P .. 'entries')
  for n = 1, #all, 2 do
    local name, text = all[n], all[n + 1]
    if not string.find(name, '^%d') then -- a message group and its last entry
      local last = new_id('signals', text)
      if last then tails[name], moved[#moved + 1] = last, name end
    else
      local entry = {false, decode(text)}
      local renamed, following = new_id('signals', name), entry[ENTRY.FOLLOWING]
      following = following ~= '' and new_id('signals', following)
      if following then entry[ENTRY.FOLLOWING] = following end
      if renamed then
        rename_entry(name, renamed, entry)
        call('HDEL', P .. 'entries', name)
      end
      if renamed or following then
        entries[renamed or name], changed[#changed + 1] = entry, renamed or name
      end
    end
  end
  for _, id in ipairs(call('LRANGE', P .. 'released', 0, -1)) do
    local renamed = new_id('signals', id)
    if renamed then
      call('LREM', P .. 'released', 0, id)
      call('RPUSH', P .. 'released', renamed)
    end
  end
end
