-- Changes the state of a topic.
--
-- requires: permissions, retention

local function is_refused(topic, rank, final)
  return rank < topic.rank or (rank == topic.rank and final == '1')
end

-- Sets the rank of the state. If another time to live follows, `store` sets it.
local function set_rank(topic, rank)
  if rank >= END_RANK or seconds_kept(rank) ~= seconds_kept(topic.rank) then
    require_upkeep(topic.log)
    topic.is_due = true
  end
  topic.rank = rank
end

local function require_entries(topic, entries)
  read_key('LLEN', entries)
  for _, command in ipairs({'RPUSH', 'LPOP', 'HINCRBY', 'PEXPIRE'}) do require_permission(command, entries) end
end

-- Adds entries to the list, and removes the oldest of too many entries or bytes. The newest is kept whatever its size.
-- The field `entries` counts all that were added, `entry_bytes` the bytes of those in the list.
local function add_entries(topic, entries, ...)
  local meta, count, change = topic.meta, select('#', ...), 0
  for i = 1, count do change = change + #select(i, ...) end
  redis.call('HINCRBY', meta, 'entries', count)
  local length = redis.call('RPUSH', entries, ...)
  if length == count then topic.is_due = true end  -- the list is new and has no time to live
  while length > MAX_ENTRIES do
    change, length = change - #redis.call('LPOP', entries), length - 1
  end
  local bytes = redis.call('HINCRBY', meta, 'entry_bytes', string.format('%.0f', change))
  if bytes <= MAX_ENTRY_BYTES or length == 1 then return end
  local left = bytes
  while left > MAX_ENTRY_BYTES and length > 1 do
    left, length = left - #redis.call('LPOP', entries), length - 1
  end
  redis.call('HINCRBY', meta, 'entry_bytes', string.format('%.0f', left - bytes))
end
