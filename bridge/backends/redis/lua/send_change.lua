-- Changes the state of a topic and publishes the message, where no messages are kept.
--
-- requires: change, send
--
-- KEYS    meta, entries, members of the group
-- ARGV    channel, channel of the group, the name of the topic if the group lists it or '', kind or '', payload;
--         rank; 1 if the change is final, else 0; 1 if the message is an entry, else 0; names and values of fields
-- Answers 1, or false if the change is refused.

local meta, entries, members = KEYS[1], KEYS[2], KEYS[3]
local channel, group_channel, member, kind, payload, rank, final, is_entry = unpack(ARGV, 1, 8)
local FIRST_FIELD = 9

local topic = open_state(meta, channel, group_channel)
rank = tonumber(rank)
if is_refused(topic, rank, final) then return false end
if is_entry == '1' then require_entries(topic, entries) end
local is_listed = member == '' or is_member(members, member)
set_state(topic, rank, unpack(ARGV, FIRST_FIELD))
if is_entry == '1' then add_entries(topic, entries, payload) end
if is_entry == '1' or rank >= END_RANK then redis.call('EXPIRE', entries, seconds_kept(rank)) end
if not is_listed then add_member(members, member, redis.call('TIME')) end
send(channel, group_channel, payload, kind, '')
return 1
