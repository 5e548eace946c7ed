"""What the scripts that publish are made of: functions in Lua. The keys are those of `scripts`.

A message that the server refuses is not written in part. So what can be refused is looked at, or done, before
anything else is written: the type of each key, each permission, and with XADD whether there is memory and
whether this server takes writes. Redis before 7 cannot be asked for permissions; there one that is missing
shows when it is needed.

What is the same for every message of a backend stands in the text, as $NAME.
"""

from bridge.backends.redis import counts as tally

PERMIT = """
local function permit(command, name)
  if redis.acl_check_cmd and not redis.acl_check_cmd(command, name) then
    error({err = 'NOPERM the user has no permission to run ' .. command .. ' on ' .. name})
  end
end
"""
LASTING = """
-- For how many seconds a topic with a state of this rank is kept.
local function lasting(rank)
  return rank >= 0 and rank < $END and $UNENDED or $SECONDS
end
"""
EXPECT = """
local function expect(key, kind, ...)
  local held = redis.call('TYPE', key).ok
  if held ~= kind and held ~= 'none' then
    error({err = 'WRONGTYPE the key ' .. key .. ' holds a ' .. held .. ' where a ' .. kind .. ' is needed'})
  end
  for _, command in ipairs({...}) do permit(command, key) end
end
"""

# Adds messages to logs, and sets fields of their topics: numbers without a hole, marks that never go back
# whatever the clock does. Age is looked after when a 64th of it has passed: most messages pay nothing for it.
# XADD comes first: where the server refuses it, nothing is written. Where something is written before it, the
# caller looks ahead.
#
# `known` is the place of a message that this publisher once had confirmed. A server that has it no more,
# though retention has not reached it, is an older copy that was failed over to: messages are missing, and
# nothing else here tells of them. So the epoch is drawn anew, and whoever read them or resumes before them
# learns of it.
APPEND = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local topics = {}

local function permit_upkeep(topic)
  permit('XTRIM', topic.log)
  permit('PEXPIRE', topic.log)
  permit('PEXPIRE', topic.meta)
end

local function open(meta, log, channel)
  local topic = topics[meta]
  if topic then return topic end
  local head = redis.call('HMGET', meta, 'epoch', 'number', 'mark', 'upkeep', 'rank')
  topic = {meta = meta, log = log, channel = channel, epoch = head[1], number = tonumber(head[2] or 0),
           mark = tonumber(head[3] or 0), upkeep = tonumber(head[4] or 0), rank = tonumber(head[5] or -1)}
  permit('$COMMAND', channel)
  permit('HSET', meta)
  if now - topic.upkeep >= $UPKEEP then permit_upkeep(topic) end
  if head[2] then
    topic.place = head[1] .. ' ' .. head[2] .. ' ' .. head[3]
  else  -- what is left of the log has marks too
    local last = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
    topic.mark = last and string.match(last[1], '%d+') + 1 or 0
  end
  topics[meta] = topic
  return topic
end

-- To be called before a message with this rank is appended.
local function rise(topic, rank)
  if lasting(rank) ~= lasting(topic.rank) then
    permit_upkeep(topic)
    topic.upkeep = 0
  end
  topic.rank = rank
end

local function forgotten(topic, known)
  if known == topic.place then return false end
  local epoch, number, mark = string.match(known, '(%w+) (%d+) (%d+)')
  local id = mark .. '-' .. number
  if epoch ~= topic.epoch or #redis.call('XRANGE', topic.log, id, id) > 0 then return false end
  number = tonumber(number)
  local oldest = redis.call('XRANGE', topic.log, '-', '+', 'COUNT', 1)[1]
  return topic.number < number or (oldest ~= nil and tonumber(string.match(oldest[1], '-(%d+)')) <= number)
end

local function append(topic, payload, token, known, fields)
  if not topic.epoch or (known ~= '' and forgotten(topic, known)) then
    topic.epoch, topic.upkeep = string.sub(token, 1, 8), 0
  end
  topic.number, topic.mark = topic.number + 1, math.max(topic.mark, now)
  local number, mark = string.format('%.0f', topic.number), string.format('%.0f', topic.mark)
  redis.call('XADD', topic.log, 'MAXLEN', '=', '$KEEP', mark .. '-' .. number, 'p', payload, 't', token)
  redis.call('HSET', topic.meta, 'number', number, 'mark', mark, unpack(fields))
  if topic.mark - topic.upkeep >= $UPKEEP then
    topic.upkeep = topic.mark
    redis.call('XTRIM', topic.log, 'MINID', string.format('%.0f', topic.mark - $SECONDS * 1000))
    redis.call('HSET', topic.meta, 'epoch', topic.epoch, 'upkeep', mark)
    local expiry = math.ceil(lasting(topic.rank) * 1000 * 65 / 64)
    redis.call('PEXPIRE', topic.log, expiry)
    redis.call('PEXPIRE', topic.meta, expiry)
  end
  if topic.tokens then topic.tokens[token] = mark .. '-' .. number end
  topic.place = topic.epoch .. ' ' .. number .. ' ' .. mark
  redis.call('$COMMAND', topic.channel, topic.place .. ' ' .. payload)
  return topic.place
end
"""

# Finds a message whose publishing is repeated because the answer was lost: its place and its payload.
FIND = """
local function tokens_of(log)
  local tokens, from, left, page = {}, '+', 1000, nil
  repeat
    page = redis.call('XREVRANGE', log, from, '-', 'COUNT', 100)
    for _, entry in ipairs(page) do tokens[entry[2][4]], from = entry[1], entry[1] end
    left = left - #page
  until #page < 100 or left <= 0
  return tokens
end

local function find(topic, token)
  topic.tokens = topic.tokens or tokens_of(topic.log)
  local id = topic.tokens[token]
  if not id then return nil end
  local mark, number = string.match(id, '(%d+)-(%d+)')
  local place = (topic.epoch or '') .. ' ' .. number .. ' ' .. mark
  return place, redis.call('XRANGE', topic.log, id, id)[1][2][2]
end
"""

# Applies a change that `topic` accepts to its state. The fields are for the caller to set.
CHANGE = """
local function refuses(topic, rank, final)
  return rank < topic.rank or (rank == topic.rank and final == '1')
end

local function expect_entries(topic, entries)
  if topic.takes_entries then return end
  expect(entries, 'list', 'RPUSH', 'LTRIM', 'EXPIRE')
  permit('HINCRBY', topic.meta)
  topic.takes_entries = true
end

local function change(topic, entries, payload, rank, entry)
  topic.rank = rank
  redis.call('EXPIRE', topic.meta, lasting(rank))
  if entry == '1' then
    redis.call('HINCRBY', topic.meta, 'entries', 1)
    redis.call('RPUSH', entries, payload)
    redis.call('LTRIM', entries, -$ENTRIES, -1)
  end
  if entries and (entry == '1' or rank >= $END) then redis.call('EXPIRE', entries, lasting(rank)) end
end
"""

# Lists a topic in a group. Needs `clock`.
ENLIST = """
local function enlist(members, topic)
  if redis.call('ZADD', members, 'NX', clock[1] + clock[2] / 1000000, topic) == 1 then
    redis.call('ZREMRANGEBYRANK', members, 0, -$MEMBERS - 1)
    redis.call('EXPIRE', members, $UNENDED)
  end
end
"""

# Counts a part. `keys` are meta, parts, shown, lines.
COUNT = f"""{tally.COUNT}
local function expect_parts(keys)
  expect(keys[2], 'hash', 'HSET', 'DEL', 'EXPIRE')
  expect(keys[3], 'zset', 'ZADD', 'ZREM', 'EXPIRE')
  expect(keys[4], 'hash', 'HSET', 'HDEL', 'EXPIRE')
end
"""
