-- Publishes messages with changes where no messages are kept.
--
-- requires: permissions, retention, frame, members

local function open_state(meta, channel, group_channel)
  require_permission('HSET', meta)
  require_permission('EXPIRE', meta)
  require_permission(PUBLISH_COMMAND, channel)
  require_permission(PUBLISH_COMMAND, group_channel)
  return {meta = meta, rank = tonumber(redis.call('HGET', meta, 'rank') or -1)}
end

-- Sets the rank and fields (names and values) of a state.
local function set_state(topic, rank, ...)
  redis.call('HSET', topic.meta, 'rank', rank, ...)
  redis.call('EXPIRE', topic.meta, seconds_kept(rank))
end

-- `FRAME_MARK` tells such a message from those of other programs, which publish the payload alone.
local function send(channel, group_channel, payload, kind, counts)
  local data = payload
  if kind ~= '' or counts ~= '' then data = frame(FRAME_MARK, payload, kind, counts) end
  redis.call(PUBLISH_COMMAND, group_channel, data)
  redis.call(PUBLISH_COMMAND, channel, data)
end
