-- Reads the last messages.
--
-- KEYS    meta, log
-- ARGV    how many messages at most
-- Answers the epoch of the topic; the stream entries, the newest first.

local meta, log = KEYS[1], KEYS[2]
local limit = ARGV[1]

return {redis.call('HGET', meta, 'epoch'), redis.call('XREVRANGE', log, '+', '-', 'COUNT', limit)}
