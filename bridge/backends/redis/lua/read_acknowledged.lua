-- Reads the position of a durable reader. A new reader gets the position where the topic is now.
--
-- KEYS    durable, meta
-- ARGV    the name of the reader
-- Answers epoch, number and mark, with spaces between them.

local durable, meta = KEYS[1], KEYS[2]
local name = ARGV[1]

local epoch, number, mark = unpack(redis.call('HMGET', meta, 'epoch', 'number', 'mark'))
redis.call('HSETNX', durable, name, (epoch or '') .. ' ' .. (number or 0) .. ' ' .. (mark or 0))
return redis.call('HGET', durable, name)
