--- @include "call_many"
--- @include "read_position"
-- The rows of the book that a script works on: read at once, changed in memory, written at once.
local book = {} -- by position key: as it is stored, or false; '' where nothing is left
local touched = {} -- the position keys to be written

local function read_book_rows(position_keys)
  local stored = call_many('HMGET', P .. 'book', position_keys)
  for n = 1, #position_keys do book[position_keys[n]] = stored[n] end
end

local function write_book_rows()
  local kept, emptied = {}, {}
  for n = 1, #touched do
    local key = touched[n]
    if book[key] == '' then emptied[#emptied + 1] = key
    else kept[#kept + 1], kept[#kept + 2] = key, book[key] end
  end
  call_many('HSET', P .. 'book', kept)
  call_many('HDEL', P .. 'book', emptied)
end
