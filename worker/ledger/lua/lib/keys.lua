-- The account's keys. All share the hash tag of KEYS[1], {account}:signals, and so one slot.
--   signals          stream: the input; group `execution`
--   orders           stream: events about orders
--   positions        stream: events about positions
--   system           stream: events about the account
--   dead             stream: dead letters
--   bell             stream: rung when an entry is given back
--   entries          hash: entry id -> ENTRY, msgpack; message group -> its last entry
--   lines            sorted set: message group -> openings that wait in it; and with a '-' before
--                    it -> others that do
--   leases           sorted set: entry id -> when its lease ends, ms
--   released         list: entries that any worker may take
--   unresolved       sorted set: entry id -> when the keeper asks again, ms
--   verdicts         hash: entry id -> what a person says became of its order, JSON
--   corrections      hash: request -> what a person says the account holds, JSON
--   corrected:<id>   string: the answer to such a request, JSON, for a minute
--   record:<signal>  string: RECORD, msgpack
--   book             hash: position key -> position and reservation (read_position.lua)
--   totals           hash: quote currency -> exposure, millionths
--   realized         hash: quote currency -> realised profit, millionths
--   day:<n>          hash: quote currency -> realised profit of that day, millionths
--   rate:<minute>    string: openings that came to the check of the order rate in that minute,
--                    admitted or refused by it
--   throttle         hash: exchange, or its API key -> until when it is asked nothing, ms
--   budget:<name>    sorted set: workers that share a budget of requests -> last heartbeat, ms
--   control          hash: trading state, reason, actor, time; `asks`: who asks for which state, JSON
--   watched          hash: what the keeper has seen and logged of what people do
--   workers          hash: consumer -> time and status of its last heartbeat
--   keeper, said     string: the keeper's consumer name and its readiness note, for a term
--   sheet            string: when it was published, ms, and the keeper's Sheet, JSON; expires
--   key:<digest>     hash: seat at an API key -> until when it is held, ms, and by whom
--   epoch            hash: the primary's replication id, since when writes may be missing, ms, and
--                    until when new entries are read one by one, ms
--   replayed:<id>    string: the new entry of a dead letter that was replayed
--   letters-trimmed  hash: dead letters removed within a day for want of room, and when last, ms
--   mending:<stream>, mending-ids:<stream>
--                    stream: the copy of one that is being mended; hash: its entries' new ids
--   mended:<stream>  string: what its last mending did, and for which call
local SIGNALS, GROUP = KEYS[1], 'execution'
local P = string.sub(SIGNALS, 1, -8) -- the prefix of every key
local call = redis.call -- looked up once

-- A slot that is being moved answers for a missing key with an error: stop before the first write.
call('EXISTS', P .. 'none')
