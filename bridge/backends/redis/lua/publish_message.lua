-- Publishes one message that changes no state.
--
-- requires: append
--
-- KEYS    meta, log
-- ARGV    channel, payload, token, the last id that the publisher had confirmed or '', kind or ''
-- Answers the id of the message.

local meta, log = KEYS[1], KEYS[2]
local channel, payload, token, known, kind = unpack(ARGV)

local topic = open_topic(meta, log, channel)
check_known(topic, known)
return append(topic, payload, token, kind, '')
