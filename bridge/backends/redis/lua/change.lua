-- Changes the state of a topic.
--
-- requires: permissions, retention
--
-- `topic` is a table with the key of the hash in `meta` and the rank of the state in `rank`.

local function is_refused(topic, rank, final)
  return rank < topic.rank or (rank == topic.rank and final == '1')
end

local function require_entries(topic, entries)
  if topic.entries_checked then return end
  require_key(entries, 'list', 'RPUSH', 'LTRIM', 'EXPIRE')
  require_permission('HINCRBY', topic.meta)
  topic.entries_checked = true
end

-- Applies an accepted change. The caller sets the fields of the hash. `entries` is nil where there is no list.
local function apply_change(topic, entries, payload, rank, is_entry)
  topic.rank = rank
  redis.call('EXPIRE', topic.meta, seconds_kept(rank))
  if is_entry == '1' then
    redis.call('HINCRBY', topic.meta, 'entries', 1)
    redis.call('RPUSH', entries, payload)
    redis.call('LTRIM', entries, -MAX_ENTRIES, -1)
  end
  if entries and (is_entry == '1' or rank >= END_RANK) then
    redis.call('EXPIRE', entries, seconds_kept(rank))
  end
end
