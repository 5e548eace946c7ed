-- Keeps a topic that is read: with its hash the epoch of a quiet topic would expire.
--
-- requires: retention
--
-- KEYS    meta

local meta = KEYS[1]

local rank = tonumber(redis.call('HGET', meta, 'rank')) or -1
return redis.call('EXPIRE', meta, seconds_kept(rank))
