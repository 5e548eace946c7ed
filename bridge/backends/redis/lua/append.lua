-- Appends messages to the streams of topics and publishes them.
--
-- requires: permissions, retention, frame
--
-- The numbers of a topic have no hole. Its marks (the milliseconds of the server's clock) never go back, whatever
-- the clock does. Old messages are removed, and the time to live is set again, when a 64th of the retention time
-- has passed: most messages cost nothing for it.

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local topics = {}  -- the topics of this call, by the key of their hash

local function require_upkeep(topic)
  require_permission('XTRIM', topic.log)
  require_permission('PEXPIRE', topic.log)
  require_permission('PEXPIRE', topic.meta)
end

-- Reads where a topic is, and checks what `append` needs.
local function open_topic(meta, log, channel)
  local topic = topics[meta]
  if topic then return topic end
  local epoch, number, mark, upkeep, rank =
    unpack(redis.call('HMGET', meta, 'epoch', 'number', 'mark', 'upkeep', 'rank'))
  topic = {meta = meta, log = log, channel = channel, epoch = epoch, number = tonumber(number or 0),
           mark = tonumber(mark or 0), upkeep = tonumber(upkeep or 0), rank = tonumber(rank or -1)}
  require_permission(PUBLISH_COMMAND, channel)
  require_permission('HSET', meta)
  if now - topic.upkeep >= UPKEEP_MILLISECONDS then require_upkeep(topic) end
  if number then
    topic.last_id = epoch .. '-' .. number .. '-' .. mark
  else  -- the stream may have outlived the hash; its ids begin with marks
    local last = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
    topic.mark = last and string.match(last[1], '%d+') + 1 or 0
  end
  topics[meta] = topic
  return topic
end

-- Sets the rank of a topic's state. Call it before the message that brings this rank is appended.
local function set_rank(topic, rank)
  if seconds_kept(rank) ~= seconds_kept(topic.rank) then
    require_upkeep(topic)
    topic.upkeep = 0
  end
  topic.rank = rank
end

-- Begins a new epoch if this server lost the message `known`, which the publisher once had confirmed.
--
-- If the message is missing although retention has not reached it, this server is an older copy that took over
-- in a failover, and lost messages. Nothing else here shows it. In a new epoch the readers who had those messages,
-- or who resume before them, get to know.
local function check_known(topic, known)
  if known == '' or known == topic.last_id then return end
  local epoch, number, mark = string.match(known, '(%w+)-(%d+)-(%d+)')
  local entry_id = mark .. '-' .. number
  if epoch ~= topic.epoch or #redis.call('XRANGE', topic.log, entry_id, entry_id) > 0 then return end
  number = tonumber(number)
  local oldest = redis.call('XRANGE', topic.log, '-', '+', 'COUNT', 1)[1]
  if topic.number < number or (oldest ~= nil and tonumber(string.match(oldest[1], '-(%d+)')) <= number) then
    topic.epoch = false
  end
end

-- Returns the fields of a stream entry. Readers know them by their order; kind and counts are left out where
-- they are empty.
local function entry_fields(payload, token, kind, counts)
  if counts ~= '' then return 'p', payload, 't', token, 'k', kind, 'c', counts end
  if kind ~= '' then return 'p', payload, 't', token, 'k', kind end
  return 'p', payload, 't', token
end

-- Appends a message, sets `fields` (names and values, or nil) of the topic's hash, and publishes the message. Returns
-- its id. XADD is the first write: where the server refuses it, nothing is written. A caller that writes before it
-- checks the stream itself.
local function append(topic, payload, token, kind, counts, fields)
  if not topic.epoch then
    topic.epoch, topic.upkeep = string.sub(token, 1, 8), 0
  end
  topic.number, topic.mark = topic.number + 1, math.max(topic.mark, now)
  local number, mark = string.format('%.0f', topic.number), string.format('%.0f', topic.mark)
  local entry_id = mark .. '-' .. number
  redis.call('XADD', topic.log, 'MAXLEN', '=', MAX_MESSAGES, entry_id, entry_fields(payload, token, kind, counts))
  if fields then
    redis.call('HSET', topic.meta, 'number', number, 'mark', mark, unpack(fields))
  else
    redis.call('HSET', topic.meta, 'number', number, 'mark', mark)
  end
  if topic.mark - topic.upkeep >= UPKEEP_MILLISECONDS then
    topic.upkeep = topic.mark
    redis.call('XTRIM', topic.log, 'MINID', string.format('%.0f', topic.mark - SECONDS * 1000))
    redis.call('HSET', topic.meta, 'epoch', topic.epoch, 'upkeep', mark)
    local milliseconds = math.ceil(seconds_kept(topic.rank) * 1000 * 65 / 64)
    redis.call('PEXPIRE', topic.log, milliseconds)
    redis.call('PEXPIRE', topic.meta, milliseconds)
  end
  if topic.entry_ids then topic.entry_ids[token] = entry_id end
  topic.last_id = topic.epoch .. '-' .. number .. '-' .. mark
  redis.call(PUBLISH_COMMAND, topic.channel, frame(topic.last_id, payload, kind, counts))
  return topic.last_id
end
