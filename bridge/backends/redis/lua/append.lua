-- Appends messages to the streams of topics.
--
-- requires: permissions, retention
--
-- The numbers of a topic have no hole. Its marks (the milliseconds of the server's clock) never go back, whatever
-- the clock does. Old messages are removed, and the time to live is set again, when a 64th of the retention time
-- has passed: most messages cost nothing for it.
--
-- The bytes of a topic are counted in sections. A section ends before the message that would make it larger than
-- SECTION_BYTES, a sixteenth of MAX_BYTES. When one ends, the oldest sections of too many bytes are removed. The
-- last one has a message at least, so the newest message is kept. The field `bytes` has the bytes of the last
-- section; `sections` has, for each section before it, the id of the first entry after it and its bytes.
--
-- A script opens a topic, appends messages, stores where the topic is then, and publishes the messages.

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

require_permission('HSET', KEYS[1])

local function require_upkeep(log)
  require_permission('XTRIM', log)
  require_permission('PEXPIRE', log)
end

-- Returns whether this server lost the message `known`, which the publisher once had confirmed.
--
-- If the message is missing although retention has not reached it, this server is an older copy that took over
-- in a failover, and lost messages. Nothing else here shows it.
local function has_lost(known, log, topic_epoch, topic_number)
  local epoch, number, mark = string.match(known, '(%w*)-(%d+)-(%d+)')
  local entry_id = mark .. '-' .. number
  if epoch ~= topic_epoch or #redis.call('XRANGE', log, entry_id, entry_id) > 0 then return false end
  number = tonumber(number)
  local oldest = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1]
  return topic_number < number or (oldest ~= nil and tonumber(string.match(oldest[1], '-(%d+)')) <= number)
end

-- Returns where a topic is, and checks what the other functions need. `known` is the last id that the publisher had
-- confirmed, or ''. If this server lost that message, the next one begins a new epoch. So the readers who had it, or
-- who resume before it, get to know.
local function open_topic(meta, log, channel, known)
  require_permission(PUBLISH_COMMAND, channel)
  local epoch, number, mark, upkeep, rank, bytes =
    unpack(redis.call('HMGET', meta, 'epoch', 'number', 'mark', 'upkeep', 'rank', 'bytes'))
  local begins = not number
  if begins then  -- the stream may have outlived the hash; its ids begin with marks
    local last = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
    number, mark = 0, last and string.match(last[1], '%d+') + 1 or 0
  elseif known ~= '' and known ~= epoch .. '-' .. number .. '-' .. mark then
    begins = has_lost(known, log, epoch, tonumber(number))
  end
  mark = math.max(mark, now)
  local is_due = begins or mark - (upkeep or 0) >= UPKEEP_MILLISECONDS
  if is_due then require_upkeep(log) end
  return {meta = meta, log = log, channel = channel, epoch = epoch, begins = begins, number = tonumber(number),
          mark = string.format('%.0f', mark), is_due = is_due, rank = tonumber(rank or -1),
          bytes = tonumber(bytes or 0)}
end

-- Appends a message. Returns its id. XADD is the first write: where the server refuses it, nothing is written. A
-- caller that writes before it checks the stream itself.
--
-- Readers know the fields of a stream entry by their order. Kind and counts are left out where they are empty.
local function append(topic, payload, token, kind, counts)
  local number = string.format('%.0f', topic.number + 1)
  local entry_id = topic.mark .. '-' .. number
  if counts ~= '' then
    redis.call('XADD', topic.log, 'MAXLEN', '=', MAX_MESSAGES, entry_id, 'p', payload, 't', token, 'k', kind, 'c', counts)
  elseif kind ~= '' then
    redis.call('XADD', topic.log, 'MAXLEN', '=', MAX_MESSAGES, entry_id, 'p', payload, 't', token, 'k', kind)
  else
    redis.call('XADD', topic.log, 'MAXLEN', '=', MAX_MESSAGES, entry_id, 'p', payload, 't', token)
  end
  topic.number, topic.number_text = topic.number + 1, number
  local bytes = topic.bytes + #payload
  if bytes > SECTION_BYTES and bytes > #payload then  -- the message begins a section
    topic.ended_sections = (topic.ended_sections or '') .. string.format('%s %.0f ', entry_id, topic.bytes)
    bytes = #payload
  end
  topic.bytes = bytes
  if topic.entry_ids then topic.entry_ids[token] = entry_id end  -- for `find`
  if topic.begins then topic.epoch, topic.begins = string.sub(token, 1, 8), false end
  return topic.epoch .. '-' .. number .. '-' .. topic.mark
end

-- Stores where a topic is after an append, with more fields of its hash (names and values). Removes old messages:
-- sections, so that those that are left have MAX_BYTES at most when the last one is full; and messages older than
-- SECONDS, if that is due. `entries` is the list of entries, or nil. It is one function because each one that a
-- script defines costs time in each call.
local function store(topic, entries, ...)
  local meta, log = topic.meta, topic.log
  redis.call('HSET', meta, 'number', topic.number_text, 'mark', topic.mark, 'bytes', topic.bytes, ...)
  if topic.ended_sections then
    local sections = (redis.call('HMGET', meta, 'sections')[1] or '') .. topic.ended_sections
    local total, first_kept = math.max(topic.bytes, SECTION_BYTES), nil
    for bytes in string.gmatch(sections, ' (%d+) ') do total = total + bytes end
    while total > MAX_BYTES and sections ~= '' do
      local next_entry_id, bytes, others = string.match(sections, '(%S+) (%d+) (.*)')
      total, first_kept, sections = total - bytes, next_entry_id, others
    end
    redis.call('HSET', meta, 'sections', sections)
    -- The message is written, so a missing permission must not fail here. `require_upkeep` reports it.
    if first_kept then redis.pcall('XTRIM', log, 'MINID', first_kept) end
  end
  if not topic.is_due then return end
  redis.call('HSET', meta, 'epoch', topic.epoch, 'upkeep', topic.mark)
  redis.call('XTRIM', log, 'MINID', string.format('%.0f', topic.mark - SECONDS * 1000))
  local milliseconds = math.ceil(seconds_kept(topic.rank) * 1000 * 65 / 64)
  redis.call('PEXPIRE', log, milliseconds)
  redis.call('PEXPIRE', meta, milliseconds)
  if entries then redis.call('PEXPIRE', entries, milliseconds) end
end

-- Returns the sizes of what a frame has of a message. `frames.py` reads a frame.
local function sizes_of(payload, kind, counts)
  return string.format(' %d %d %d', #kind, #counts, #payload)
end

-- Publishes one frame. Kind and texts together are kind, counts and payload of each message.
local function publish(topic, first_id, sizes, kind, texts)
  redis.call(PUBLISH_COMMAND, topic.channel, first_id .. sizes .. '\n' .. kind .. texts)
end
