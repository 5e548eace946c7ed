-- Publishes a message to the group of its topic, where the group is in another slot.
--
-- requires: find, group
--
-- KEYS    of the group: meta, log, members
-- ARGV    channel of the group, payload, token, the last id of the group that the publisher had confirmed or '',
--         kind or '', counts or '', name of the topic, 1 if the group lists it, else 0
-- Answers the id of the message, or false if it was published before.

local meta, log, members = KEYS[1], KEYS[2], KEYS[3]
local channel, payload, token, known, kind, counts, member, is_listed = unpack(ARGV)

local group = open_group(meta, log, members, channel)
if find(group, token) then return false end
check_known(group, known)
return append_to_group(group, member, is_listed, payload, token, kind, counts)
