-- Reads a page of messages.
--
-- KEYS    meta, log
-- ARGV    the id of the first stream entry, the bytes of a page
-- Answers epoch, number and mark of the topic; the stream entries, two at least; the oldest stream entry that is
--         kept; 1 if the page is the last one, else 0.

local meta, log = KEYS[1], KEYS[2]
local start, page_bytes = ARGV[1], tonumber(ARGV[2])

local page, size, count, is_last = {}, 0, 2, false
repeat
  local entries = redis.call('XRANGE', log, start, '+', 'COUNT', count)
  is_last = #entries < count
  for _, entry in ipairs(entries) do
    page[#page + 1] = entry
    size = size + #entry[2][2] + 64
  end
  if not is_last then
    local mark, number = string.match(page[#page][1], '(%d+)-(%d+)')
    start = mark .. '-' .. string.format('%.0f', number + 1)
    count = math.min(400, math.floor((page_bytes - size) / (size / #page)))
  end
until is_last or count < 1

local head = redis.call('HMGET', meta, 'epoch', 'number', 'mark')
local oldest = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)
return {head, page, oldest, is_last and 1 or 0}
