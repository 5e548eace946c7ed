-- Publishes messages with changes where no messages are kept.
--
-- requires: permissions, retention, frame, members

local GROUP_COUNT = 4  -- the index in ARGV

-- Reads the groups of the topic: their number, and of each one the channel, and the name of the topic if the group
-- lists it or ''. Their lists of members are the keys from `first_key` on. Returns the groups, and the index of the
-- argument that follows. Checks what the other functions need.
local function open_groups(first_key)
  local groups, at = {}, GROUP_COUNT + 1
  for i = 1, tonumber(ARGV[GROUP_COUNT]) do
    local group = {members = KEYS[first_key + i - 1], channel = ARGV[at], member = ARGV[at + 1]}
    require_permission(PUBLISH_COMMAND, group.channel)
    group.adds = group.member ~= '' and not is_member(group.members, group.member)
    groups[i], at = group, at + 2
  end
  return groups, at
end

local function open_state(meta, channel)
  require_permission('HSET', meta)
  require_permission('EXPIRE', meta)
  require_permission(PUBLISH_COMMAND, channel)
  return {meta = meta, rank = tonumber(redis.call('HGET', meta, 'rank') or -1)}
end

local function add_to_groups(groups)
  for _, group in ipairs(groups) do
    if group.adds then add_member(group.members, group.member, redis.call('TIME')) end
  end
end

-- Sets the rank and fields (names and values) of a state.
local function set_state(topic, rank, ...)
  redis.call('HSET', topic.meta, 'rank', rank, ...)
  redis.call('EXPIRE', topic.meta, seconds_kept(rank))
end

-- `FRAME_MARK` tells such a message from those of other programs, which publish the payload alone.
local function send(channel, groups, payload, kind, counts)
  local data = payload
  if kind ~= '' or counts ~= '' then data = frame(FRAME_MARK, payload, kind, counts) end
  for _, group in ipairs(groups) do redis.call(PUBLISH_COMMAND, group.channel, data) end
  redis.call(PUBLISH_COMMAND, channel, data)
end
