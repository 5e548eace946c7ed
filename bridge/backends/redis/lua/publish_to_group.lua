-- Publishes a message to the group of its topic, where the group is in another slot.
--
-- requires: append, find, members
--
-- KEYS    of the group: meta, log, members
-- ARGV    channel of the group, payload, token, the last id of the group that the publisher had confirmed or '',
--         kind or '', counts or '', the name of the topic if the group lists it or '',
--         how many members it lists
-- Answers the id of the message, or false if it was published before.

local meta, log, members = KEYS[1], KEYS[2], KEYS[3]
local channel, payload, token, known, kind, counts, member, most = unpack(ARGV)

local group = open_topic(meta, log, channel, known)
if find(group, token) then return false end
read_key('XLEN', log)
local is_listed = member == '' or is_member(members, member)
local id = append(group, payload, token, kind, counts)
if not is_listed then add_member(members, member, clock, most) end
store(group)
publish(group, id, sizes_of(payload, kind, counts), kind, counts .. payload)
return id
