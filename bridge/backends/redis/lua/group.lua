-- Appends the messages of a topic to the stream of its group too.
--
-- requires: permissions, append, members

local function open_group(meta, log, members, channel)
  local group = open_topic(meta, log, channel)
  if not group.members then
    require_key(log, 'stream', 'XADD')
    require_members(members)
    group.members, group.listed = members, {}
  end
  return group
end

local function append_to_group(group, member, is_listed, payload, token, kind, counts)
  if is_listed == '1' and not group.listed[member] then
    add_member(group.members, member, clock)
    group.listed[member] = true
  end
  return append(group, payload, token, kind, counts)
end
