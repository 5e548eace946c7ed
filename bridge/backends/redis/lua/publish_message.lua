-- Publishes one message that changes no state.
--
-- requires: append
--
-- KEYS    meta, log
-- ARGV    channel, the last id that the publisher had confirmed or '', token, kind or '', payload
-- Answers the id of the message.

local meta, log = KEYS[1], KEYS[2]
local channel, known, token, kind, payload = unpack(ARGV)

local topic = open_topic(meta, log, channel, known)
local id = append(topic, payload, token, kind, '')
store(topic)
publish(topic, id, sizes_of(payload, kind, ''), kind, payload)
return id
