-- The name of an entry's message group.
local find, match = string.find, string.match -- looked up once

-- Return the value of a JSON string field, if the text holds the name once and both are written
-- plainly. The name is looked for without its first two characters: a search stops wherever its first
-- character stands, and in JSON a quote is everywhere, an x or y hardly anywhere.
local function plain(data, rest_of_name, field)
  local at = find(data, rest_of_name, 1, true)
  if not at or find(data, rest_of_name, at + 1, true) then return nil end
  return match(data, field, at - 2)
end
local EXCHANGE, SYMBOL = '^"exchange": ?"([^"\\]*)"', '^"symbol": ?"([^"\\]*)"'

-- Return the message group of a new entry: its `key` field, else exchange and symbol, else its own.
-- It begins with `:` or `!`, which tells it from an entry's id, for `entries` holds both. That of an
-- entry its group has no room for is `!*` and its id.
local function group_name(id, fields)
  local name, data = '', ''
  for n = 1, #fields, 2 do
    if fields[n] == 'data' then data = fields[n + 1]
    elseif fields[n] == 'key' then name = fields[n + 1] end
  end
  if name == '' and #data <= 65536 then
    local exchange, symbol = plain(data, 'xchange"', EXCHANGE), plain(data, 'ymbol"', SYMBOL)
    if not exchange or not symbol or find(data, '\\u', 1, true) then -- a name may be escaped
      local ok, signal = pcall(cjson.decode, data)
      if ok and type(signal) == 'table' then exchange, symbol = signal.exchange, signal.symbol end
    end
    if type(exchange) == 'string' and type(symbol) == 'string' then
      name = exchange .. ':' .. symbol
    end
  end
  if name == '' then return '!' .. id end
  return ':' .. (#name > 128 and redis.sha1hex(name) or name)
end
