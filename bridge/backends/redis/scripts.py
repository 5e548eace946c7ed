"""What must be one step on the server. Lua, run by Redis and Valkey alike.

The keys of a topic, all in one slot of a cluster:

    meta      hash: epoch, number and mark of the last message; rank, count of entries and fields of the
              state; the figures of a whole
    log       stream: the messages, under ids `mark-number`, the mark being the server's milliseconds
    entries   list: the entries of the state
    parts     hash: the stage and value of each part of a whole, until the last one has ended
    shown     sorted set: the parts of which a line is kept, by importance and age
    lines     hash: the lines of those parts
    members   sorted set: the topics of a group, by the time they were first seen
    durable   hash: the places of durable readers

Where there is a log, a message goes out on Pub/Sub as `epoch number mark payload`.
"""

from bridge.backends.redis.tally import COUNT

# What is the same for every message of a backend stands in the text of its scripts, as $NAME.

# Adds a message to a log: numbers without a hole, marks that never go back whatever the clock does. Age is
# looked after when a 64th of it has passed, which costs most messages nothing. The log's name is its channel.
#
# `known` is the place of a message that this publisher once had confirmed. A server that has it no more,
# though retention has not reached it, is an older copy that was failed over to: messages are missing, and
# nothing else here tells of them. So the epoch is drawn anew, and whoever read them or resumes before them
# learns of it.
_APPEND = """
local function forgotten(log, head, known)
  local epoch, number, mark = string.match(known, '(%w+) (%d+) (%d+)')
  if epoch ~= head[1] or #redis.call('XRANGE', log, mark .. '-' .. number, mark .. '-' .. number) > 0 then
    return false
  end
  local oldest = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1]
  number = tonumber(number)
  return tonumber(head[2]) < number
    or (oldest ~= nil and tonumber(string.match(oldest[1], '-(%d+)')) <= number)
end

local function append(meta, log, payload, token, known)
  local head, clock = redis.call('HMGET', meta, 'epoch', 'number', 'mark', 'upkeep'), redis.call('TIME')
  if head[1] and known ~= '' and known ~= head[1] .. ' ' .. head[2] .. ' ' .. head[3]
    and forgotten(log, head, known) then
    head[1] = string.sub(token, 1, 8)
    redis.call('HSET', meta, 'epoch', head[1])
  end
  local epoch, number = head[1] or string.sub(token, 1, 8), string.format('%.0f', (head[2] or 0) + 1)
  local now = math.max(head[3] or 0, clock[1] * 1000 + math.floor(clock[2] / 1000))
  local mark = string.format('%.0f', now)
  redis.call('XADD', log, 'MAXLEN', '=', '$KEEP', mark .. '-' .. number, 'p', payload, 't', token)
  if now - (head[4] or 0) >= $SECONDS * 1000 / 64 then
    redis.call('XTRIM', log, 'MINID', string.format('%.0f', now - $SECONDS * 1000))
    redis.call('HSET', meta, 'epoch', epoch, 'upkeep', mark)
    redis.call('PEXPIRE', log, math.ceil($SECONDS * 1000 * 65 / 64))
    redis.call('PEXPIRE', meta, math.ceil($SECONDS * 1000 * 65 / 64))
  end
  redis.call('HSET', meta, 'number', number, 'mark', mark)
  local place = epoch .. ' ' .. number .. ' ' .. mark
  redis.call('$COMMAND', log, place .. ' ' .. payload)
  return place
end
"""

# Finds a message whose publishing is repeated because the answer was lost.
_FIND = """
local function find(meta, log, token)
  for _, entry in ipairs(redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1000)) do
    if entry[2][4] == token then
      local mark, number = string.match(entry[1], '(%d+)-(%d+)')
      return redis.call('HGET', meta, 'epoch') .. ' ' .. number .. ' ' .. mark, entry[2][2]
    end
  end
end
"""

# Applies a change to the state of a topic; answers whether it was accepted.
_CHANGE = """
local function change(meta, entries, payload, rank, final, entry, fields)
  local held = tonumber(redis.call('HGET', meta, 'rank') or -1)
  if tonumber(rank) < held or (final == '1' and tonumber(rank) == held) then return false end
  redis.call('HSET', meta, 'rank', rank, unpack(fields))
  redis.call('EXPIRE', meta, $SECONDS)
  if entry == '1' then
    redis.call('HINCRBY', meta, 'entries', 1)
    redis.call('RPUSH', entries, payload)
    redis.call('LTRIM', entries, -$ENTRIES, -1)
    redis.call('EXPIRE', entries, $SECONDS)
  end
  return true
end
"""

_ENLIST = """
local function enlist(members, topic, listed)
  if listed ~= '1' then return end
  local clock = redis.call('TIME')
  if redis.call('ZADD', members, 'NX', clock[1] + clock[2] / 1000000, topic) == 1 then
    redis.call('ZREMRANGEBYRANK', members, 0, -$MEMBERS - 1)
    redis.call('EXPIRE', members, $SECONDS)
  end
end
"""

# KEYS meta, log. ARGV payload, token, known.
PUBLISH = f"""{_APPEND}
return append(KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3])
"""
PUBLISH_AGAIN = f"""{_APPEND}{_FIND}
return find(KEYS[1], KEYS[2], ARGV[2]) or append(KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3])
"""

# KEYS meta, log, entries; of the group, unless it is in another slot: meta, log, members.
# ARGV payload, token, known, topic, listed, rank, final, entry, fields.
_PUBLISH_CHANGE = """
if not change(KEYS[1], KEYS[3], ARGV[1], ARGV[6], ARGV[7], ARGV[8], {unpack(ARGV, 9)}) then return false end
local place = append(KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3])
if KEYS[4] then
  enlist(KEYS[6], ARGV[4], ARGV[5])
  append(KEYS[4], KEYS[5], ARGV[1], ARGV[2], '')
end
return place
"""
PUBLISH_CHANGE = f"{_APPEND}{_CHANGE}{_ENLIST}{_PUBLISH_CHANGE}"
PUBLISH_CHANGE_AGAIN = f"""{_APPEND}{_FIND}{_CHANGE}{_ENLIST}
local found = find(KEYS[1], KEYS[2], ARGV[2])
if found then return found end
{_PUBLISH_CHANGE}"""

# KEYS meta, log, entries, parts, shown, lines; of the group, unless it is in another slot: meta, log,
# members. ARGV token, known, topic, listed, what `count` takes. Answers the place of the last message and all
# payloads; the token of a second message is that of the first with a 2 at its end.
_PUBLISH_PART = """
local answer = {}
for i, m in ipairs(count({KEYS[1], KEYS[4], KEYS[5], KEYS[6]}, {unpack(ARGV, 5)})) do
  local token = ARGV[1] .. (i > 1 and i or '')
  change(KEYS[1], KEYS[3], m[1], m[2], m[3], '0', m[4])
  answer[1], answer[i + 1] = append(KEYS[1], KEYS[2], m[1], token, ARGV[2]), m[1]
  if KEYS[7] then
    enlist(KEYS[9], ARGV[3], ARGV[4])
    append(KEYS[7], KEYS[8], m[1], token, '')
  end
end
return answer
"""
PUBLISH_PART = f"{_APPEND}{_CHANGE}{_ENLIST}{COUNT}{_PUBLISH_PART}"
PUBLISH_PART_AGAIN = f"""{_APPEND}{_FIND}{_CHANGE}{_ENLIST}{COUNT}
local first, payload = find(KEYS[1], KEYS[2], ARGV[1])
local second, payload_of_second = find(KEYS[1], KEYS[2], ARGV[1] .. '2')
if first then return {{second or first, payload, payload_of_second}} end
{_PUBLISH_PART}"""

# Where the group is in another slot. KEYS of the group: meta, log, members.
# ARGV payload, token, known, topic, listed.
PUBLISH_TO_GROUP = f"""{_APPEND}{_FIND}{_ENLIST}
if find(KEYS[1], KEYS[2], ARGV[2]) then return false end
enlist(KEYS[3], ARGV[4], ARGV[5])
return append(KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3])
"""

# Where no messages are kept. KEYS meta, entries, members.
# ARGV payload, channel, topic, listed, rank, final, entry, group's channel, fields.
SEND_CHANGE = f"""{_CHANGE}{_ENLIST}
if not change(KEYS[1], KEYS[2], ARGV[1], ARGV[5], ARGV[6], ARGV[7], {{unpack(ARGV, 9)}}) then return false end
enlist(KEYS[3], ARGV[3], ARGV[4])
redis.call('$COMMAND', ARGV[8], ARGV[1])
redis.call('$COMMAND', ARGV[2], ARGV[1])
return true
"""

# The same of a part. KEYS meta, entries, parts, shown, lines, members.
# ARGV channel, group's channel, topic, listed, what `count` takes.
SEND_PART = f"""{_CHANGE}{_ENLIST}{COUNT}
for _, m in ipairs(count({{KEYS[1], KEYS[3], KEYS[4], KEYS[5]}}, {{unpack(ARGV, 5)}})) do
  change(KEYS[1], KEYS[2], m[1], m[2], m[3], '0', m[4])
  enlist(KEYS[6], ARGV[3], ARGV[4])
  redis.call('$COMMAND', ARGV[2], m[1])
  redis.call('$COMMAND', ARGV[1], m[1])
end
"""

# KEYS meta, log. ARGV first id, bytes. Answers where the topic is, a page of messages, the first that is
# kept, and whether the page is the last one. A page has two messages at least.
READ_HISTORY = """
local page, size, start, count, last = {}, 0, ARGV[1], 2, false
repeat
  local entries = redis.call('XRANGE', KEYS[2], start, '+', 'COUNT', count)
  last = #entries < count
  for _, entry in ipairs(entries) do
    page[#page + 1] = entry
    size = size + #entry[2][2] + 64
  end
  if not last then
    local mark, number = string.match(page[#page][1], '(%d+)-(%d+)')
    start = mark .. '-' .. string.format('%.0f', number + 1)
    count = math.min(400, math.floor((ARGV[2] - size) / (size / #page)))
  end
until last or count < 1
return {redis.call('HMGET', KEYS[1], 'epoch', 'number', 'mark'), page,
        redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1), last and 1 or 0}
"""

# KEYS meta, log. ARGV messages at most.
READ_LAST = """
return {redis.call('HGET', KEYS[1], 'epoch'), redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', ARGV[1])}
"""

# KEYS meta. ARGV prefix, topic, the member that the page before this one ended with or nothing, bytes, and
# how many members to name where they are in other slots, 0 to read them here. Answers where the topic is,
# states, the names of members to read elsewhere, and the member that the page ends with if there are more.
READ_STATES = """
local prefix, topic, after, room, named = ARGV[1] .. '{t:', ARGV[2], ARGV[3], ARGV[4] + 0, ARGV[5] + 0
local found = {}
local function bytes_in(list)
  local bytes = 0
  for _, text in ipairs(list) do bytes = bytes + #text + 64 end
  return bytes
end
local function add(name)
  if redis.call('HEXISTS', prefix .. name .. '}:meta', 'rank') == 0 then return end
  local fields = redis.call('HGETALL', prefix .. name .. '}:meta')
  local entries = redis.call('LRANGE', prefix .. name .. '}:entries', 0, -1)
  local lines = redis.call('HVALS', prefix .. name .. '}:lines')
  found[#found + 1] = {name, fields, entries, lines}
  room = room - bytes_in(fields) - bytes_in(entries) - bytes_in(lines)
end
local members = prefix .. topic .. '}:members'
local head = redis.call('HMGET', KEYS[1], 'epoch', 'number', 'mark')
local first = 0
if after == '' then
  add(topic)
else
  -- Without its name, it was the oldest member and has been let go of, with all that were older.
  first = (redis.call('ZREVRANK', members, after) or redis.call('ZCARD', members)) + 1
end
local names, last = redis.call('ZREVRANGE', members, first, first + (named > 0 and named or 200) - 1), false
for _, name in ipairs(named > 0 and {} or names) do
  if room <= 0 and last then break end
  add(name)
  first, last = first + 1, name
end
if named > 0 then first, last = first + #names, names[#names] end
if first >= redis.call('ZCARD', members) then last = false end
return {head, found, named > 0 and names or {}, last}
"""

# KEYS durable, meta. ARGV name, seconds. Makes a new reader's place where the topic is now.
ACKNOWLEDGED = """
local head = redis.call('HMGET', KEYS[2], 'epoch', 'number', 'mark')
redis.call('HSETNX', KEYS[1], ARGV[1], (head[1] or '') .. ' ' .. (head[2] or 0) .. ' ' .. (head[3] or 0))
return redis.call('HGET', KEYS[1], ARGV[1])
"""

# KEYS durable. ARGV name, epoch, number, mark, back.
ACKNOWLEDGE = """
local epoch, number = string.match(redis.call('HGET', KEYS[1], ARGV[1]) or '', '(%w*) (-?%d+)')
if ARGV[5] == '1' or epoch ~= ARGV[2] or tonumber(number) < tonumber(ARGV[3]) then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. ARGV[3] .. ' ' .. ARGV[4])
end
return 1
"""
