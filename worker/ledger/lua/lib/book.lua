--- @include "bulk"
--- @include "positions"
local book = {} -- by position key: as it is stored, or false; '' where nothing is left
local settled = {} -- the position keys to be written

local function read_book(position_keys)
  local stored = each('HMGET', P .. 'book', position_keys)
  for n = 1, #position_keys do book[position_keys[n]] = stored[n] end
end

local function write_book()
  local kept, emptied = {}, {}
  for n = 1, #settled do
    local key = settled[n]
    if book[key] == '' then emptied[#emptied + 1] = key
    else kept[#kept + 1], kept[#kept + 2] = key, book[key] end
  end
  each('HSET', P .. 'book', kept)
  each('HDEL', P .. 'book', emptied)
end
