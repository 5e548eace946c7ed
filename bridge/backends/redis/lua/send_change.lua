-- Changes the state of a topic and publishes the message, where no messages are kept.
--
-- requires: change, send
--
-- KEYS    meta, entries, members of each group
-- ARGV    channel; kind or ''; payload; number of groups; the groups; rank; 1 if the change is final, else 0; 1 if the
--         message is an entry, else 0; names and values of fields
-- Answers 1, or false if the change is refused.

local meta, entries = KEYS[1], KEYS[2]
local channel, kind, payload = unpack(ARGV, 1, 3)

local topic = open_state(meta, channel)
local unlisted = open_groups(3)
local rank, final, is_entry = unpack(ARGV, last_group + 2, last_group + 4)
rank = tonumber(rank)
if is_refused(topic, rank, final) then return false end
if is_entry == '1' then require_entries(topic, entries) end
set_state(topic, unlisted, rank, unpack(ARGV, last_group + 5))
if is_entry == '1' then add_entries(topic, entries, payload) end
if is_entry == '1' or rank >= END_RANK then redis.call('EXPIRE', entries, seconds_kept(rank)) end
send(channel, payload, kind, '')
return 1
