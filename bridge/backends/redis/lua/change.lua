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
  for _, command in ipairs({'RPUSH', 'LTRIM', 'HINCRBY', 'PEXPIRE'}) do require_permission(command, entries) end
end

-- Adds entries to the list, and removes the oldest of too many.
local function add_entries(topic, entries, ...)
  local count = select('#', ...)
  redis.call('HINCRBY', topic.meta, 'entries', count)
  local length = redis.call('RPUSH', entries, ...)
  if length > MAX_ENTRIES then redis.call('LTRIM', entries, -MAX_ENTRIES, -1) end
  if length == count then topic.is_due = true end  -- the list is new and has no time to live
end
