"""What a topic is on the server, and what reads it in one step. Lua, run by Redis and Valkey alike.

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

# KEYS of each topic: meta, log, entries, parts, shown, lines, members. ARGV seconds, rank of an end. Keeps
# what there is of topics as long as if it had changed now, but of those that have ended.
RENEW = """
for first = 1, #KEYS, 7 do
  local rank = tonumber(redis.pcall('HGET', KEYS[first], 'rank')) or -1
  if rank >= 0 and rank < tonumber(ARGV[2]) then
    for i = first, first + 5 do redis.call('EXPIRE', KEYS[i], ARGV[1]) end
  end
  redis.call('EXPIRE', KEYS[first + 6], ARGV[1])
end
"""

# KEYS meta. ARGV seconds, seconds where the state is no end, rank of an end. Keeps what is read.
KEEP = """
local rank = tonumber(redis.call('HGET', KEYS[1], 'rank')) or -1
local lasting = rank >= 0 and rank < tonumber(ARGV[3]) and ARGV[2] or ARGV[1]
return redis.call('EXPIRE', KEYS[1], lasting)
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
