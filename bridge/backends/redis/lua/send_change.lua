-- Changes the state of a topic and publishes the message, where no messages are kept.
--
-- requires: change, members, send
--
-- KEYS    meta, entries, members of the group
-- ARGV    channel, channel of the group, name of the topic, 1 if the group lists it, else 0; kind or '', payload;
--         rank; 1 if the change is final, else 0; 1 if the message is an entry, else 0; names and values of fields
-- Answers 1, or false if the change is refused.

local meta, entries, members = KEYS[1], KEYS[2], KEYS[3]
local channel, group_channel, member, is_listed, kind, payload, rank, final, is_entry = unpack(ARGV)
local FIRST_FIELD = 10

local topic = open_state(meta, members, channel, group_channel)
rank = tonumber(rank)
if is_refused(topic, rank, final) then return false end
if is_entry == '1' then require_entries(topic, entries) end
redis.call('HSET', meta, 'rank', rank, unpack(ARGV, FIRST_FIELD))
apply_change(topic, entries, payload, rank, is_entry)
if is_listed == '1' then add_member(members, member, redis.call('TIME')) end
send(channel, group_channel, payload, kind, '')
return 1
