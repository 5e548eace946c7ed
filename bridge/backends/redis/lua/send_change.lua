-- Changes the state of a topic and publishes the message, where no messages are kept.
--
-- requires: change, send
--
-- KEYS    meta, entries, members of each group
-- ARGV    channel; kind or ''; payload; what `open_groups` takes; rank; 1 if the change is final, else 0; 1 if the
--         message is an entry, else 0; names and values of fields
-- Answers 1, or false if the change is refused.

local meta, entries = KEYS[1], KEYS[2]
local channel, kind, payload = unpack(ARGV, 1, 3)

local topic = open_state(meta, channel)
local groups, at = open_groups(3)
local rank, final, is_entry = unpack(ARGV, at, at + 2)
rank = tonumber(rank)
if is_refused(topic, rank, final) then return false end
if is_entry == '1' then require_entries(topic, entries) end
set_state(topic, rank, unpack(ARGV, at + 3))
if is_entry == '1' then add_entries(topic, entries, payload) end
if is_entry == '1' or rank >= END_RANK then redis.call('EXPIRE', entries, seconds_kept(rank)) end
add_to_groups(groups)
send(channel, groups, payload, kind, '')
return 1
