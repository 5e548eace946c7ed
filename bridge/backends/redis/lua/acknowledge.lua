-- Moves the position of a durable reader.
--
-- KEYS    durable
-- ARGV    the name of the reader; epoch, number and mark; 1 if it may move to an earlier position, else 0

local durable = KEYS[1]
local name, epoch, number, mark, may_move_back = unpack(ARGV)

local old_epoch, old_number = string.match(redis.call('HGET', durable, name) or '', '(%w*) (-?%d+)')
if may_move_back == '1' or old_epoch ~= epoch or tonumber(old_number) < tonumber(number) then
  redis.call('HSET', durable, name, epoch .. ' ' .. number .. ' ' .. mark)
end
return 1
