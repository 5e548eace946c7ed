-- Finds a message that may have been published before: its publisher repeats it because an answer was lost.

local MAX_SEARCHED = 1000

-- Returns the ids of the last stream entries, by token.
local function recent_entry_ids(log)
  local entry_ids, last, left = {}, '+', MAX_SEARCHED
  repeat
    local page = redis.call('XREVRANGE', log, last, '-', 'COUNT', 100)
    for _, entry in ipairs(page) do
      entry_ids[entry[2][4]] = entry[1]
      last = entry[1]
    end
    left = left - #page
  until #page < 100 or left <= 0
  return entry_ids
end

-- Returns the id of the message with this token and its counts, or nil. The counts are nil if it has none.
local function find(topic, token)
  topic.entry_ids = topic.entry_ids or recent_entry_ids(topic.log)
  local entry_id = topic.entry_ids[token]
  if not entry_id then return nil end
  local mark, number = string.match(entry_id, '(%d+)-(%d+)')
  local entry = redis.call('XRANGE', topic.log, entry_id, entry_id)[1]  -- nil if this call has trimmed it
  return (topic.epoch or '') .. '-' .. number .. '-' .. mark, entry and entry[2][8]
end
