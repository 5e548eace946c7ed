-- Publishes messages with changes where no messages are kept.
--
-- requires: permissions, retention, frame, members

-- The arguments from here on are the groups of the topic: of each one the channel, the name of the topic if the group
-- lists it or '', and how many members it lists. The argument before is their number.
local FIRST_GROUP = 5
local GROUP = 3
local last_group = FIRST_GROUP - 2 + GROUP * ARGV[FIRST_GROUP - 1]

-- Checks the groups, whose lists of members are the keys from `first_key` on. Returns which lists do not have the topic
-- yet: its name and how many members the list has, by the key of the list.
local function open_groups(first_key)
  local unlisted = {}
  for at = FIRST_GROUP, last_group, GROUP do
    local members, channel, member = KEYS[first_key + (at - FIRST_GROUP) / GROUP], ARGV[at], ARGV[at + 1]
    require_permission(PUBLISH_COMMAND, channel)
    if member ~= '' and not is_member(members, member) then unlisted[members] = {member, ARGV[at + 2]} end
  end
  return unlisted
end

local function open_state(meta, channel)
  require_permission('HSET', meta)
  require_permission('EXPIRE', meta)
  require_permission(PUBLISH_COMMAND, channel)
  return {meta = meta, rank = tonumber(redis.call('HGET', meta, 'rank') or -1)}
end

-- Sets the rank and fields (names and values) of a state, and lists the topic where it is not listed yet.
local function set_state(topic, unlisted, rank, ...)
  redis.call('HSET', topic.meta, 'rank', rank, ...)
  redis.call('EXPIRE', topic.meta, seconds_kept(rank))
  for members, added in pairs(unlisted) do add_member(members, added[1], redis.call('TIME'), added[2]) end
end

-- `FRAME_MARK` tells such a message from those of other programs, which publish the payload alone.
local function send(channel, payload, kind, counts)
  local data = payload
  if kind ~= '' or counts ~= '' then data = frame(FRAME_MARK, payload, kind, counts) end
  for at = FIRST_GROUP, last_group, GROUP do redis.call(PUBLISH_COMMAND, ARGV[at], data) end
  redis.call(PUBLISH_COMMAND, channel, data)
end
