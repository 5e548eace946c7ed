-- Publishes one message with the change that it makes in the state of its topic, also in the group of the topic
-- if it has one.
--
-- requires: append, change, members
--
-- KEYS    of the topic: meta, log, entries; of the group, if there is one in the same slot: meta, log, members
-- ARGV    channel, the last id that the publisher had confirmed or '', token, kind or '', payload; channel of the
--         group or ''; the name of the topic if the group lists it or ''; how many members it lists; rank; 1 if it is
--         final, else 0; 1 if the message is an entry, else 0; names and values of fields
-- Answers the id of the message, or false if the change is refused.

local meta, log, entries, group_meta, group_log, members = unpack(KEYS)
local channel, known, token, kind, payload, group_channel, member, most, rank, final, is_entry = unpack(ARGV, 1, 11)
local FIRST_FIELD = 12

local topic = open_topic(meta, log, channel, known)
rank = tonumber(rank)
if is_refused(topic, rank, final) then return false end
local group, is_listed
if group_meta then
  group = open_topic(group_meta, group_log, group_channel, '')
  read_key('XLEN', group_log)
  is_listed = member == '' or is_member(members, member)
elseif group_channel ~= '' then
  require_permission(PUBLISH_COMMAND, group_channel)
end
if is_entry == '1' then require_entries(topic, entries) end

set_rank(topic, rank)
local id = append(topic, payload, token, kind, '')
local id_in_group = group and append(group, payload, token, kind, '')
if is_entry == '1' then add_entries(topic, entries, payload) end
if group and not is_listed then add_member(members, member, clock, most) end
local sizes = sizes_of(payload, kind, '')
store(topic, entries, 'rank', rank, unpack(ARGV, FIRST_FIELD))
publish(topic, id, sizes, kind, payload)
if group then
  store(group)
  publish(group, id_in_group, sizes, kind, payload)
end
return id
