-- Lists topics in their group, by the time they were first seen.
--
-- requires: permissions

local function require_members(members)
  require_key(members, 'zset', 'ZADD', 'ZREMRANGEBYRANK', 'EXPIRE')
end

-- `clock` is an answer of TIME.
local function add_member(members, topic, clock)
  if redis.call('ZADD', members, 'NX', clock[1] + clock[2] / 1000000, topic) == 1 then
    redis.call('ZREMRANGEBYRANK', members, 0, -MAX_MEMBERS - 1)
    redis.call('EXPIRE', members, UNENDED_SECONDS)
  end
end
