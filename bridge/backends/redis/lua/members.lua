-- Lists topics in their group, by the time they were first seen.
--
-- requires: permissions

-- Returns whether a topic is listed already. If not, checks what `add_member` needs.
local function is_member(members, topic)
  if read_key('ZSCORE', members, topic) then return true end
  require_permission('ZADD', members)
  require_permission('ZREMRANGEBYRANK', members)
  require_permission('EXPIRE', members)
  return false
end

-- `clock` is an answer of TIME. At most `most` members stay in the list.
local function add_member(members, topic, clock, most)
  redis.call('ZADD', members, clock[1] + clock[2] / 1000000, topic)
  redis.call('ZREMRANGEBYRANK', members, 0, -most - 1)
  redis.call('EXPIRE', members, UNENDED_SECONDS)
end
