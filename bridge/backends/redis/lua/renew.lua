-- Keeps the states that have not ended as long as if they had changed now.
--
-- requires: retention
--
-- KEYS    of each topic: meta, log, entries, parts, row_order, rows, members

local KEYS_OF_A_TOPIC = 7

for first = 1, #KEYS, KEYS_OF_A_TOPIC do
  local meta, members = KEYS[first], KEYS[first + KEYS_OF_A_TOPIC - 1]
  local rank = tonumber(redis.pcall('HGET', meta, 'rank')) or -1
  if rank >= 0 and rank < END_RANK then
    for i = first, first + KEYS_OF_A_TOPIC - 2 do redis.call('EXPIRE', KEYS[i], UNENDED_SECONDS) end
  end
  redis.call('EXPIRE', members, UNENDED_SECONDS)
end
