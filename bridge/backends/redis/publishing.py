"""What publishes, in one step on the server. Lua, run by Redis and Valkey alike."""

from functools import cache

from bridge.backends.redis.pieces import APPEND, CHANGE, COUNT, ENLIST, EXPECT, FIND, LASTING, PERMIT

# KEYS meta, log. ARGV channel, payload, token, known.
PUBLISH = f"""{PERMIT}{LASTING}{APPEND}
return append(open(KEYS[1], KEYS[2], ARGV[1]), ARGV[2], ARGV[3], ARGV[4], {{}})
"""

# Publishes a message with what it changes, also in its group. ARGV from `at` on are as `script` says.
_PUBLISH_CHANGE = """
local function open_group(at)
  local first, channel = tonumber(ARGV[at + 7]), ARGV[at + 8]
  if first == 0 then return permit('$COMMAND', channel) end
  local group = open(KEYS[first], KEYS[first + 1], channel)
  if not group.members then
    group.members, group.listed = KEYS[first + 2], {}
    expect(group.log, 'stream', 'XADD')
    expect(group.members, 'zset', 'ZADD', 'ZREMRANGEBYRANK', 'EXPIRE')
  end
  return group
end

local function append_to_group(group, at, payload, token)
  local topic = ARGV[at + 9]
  if ARGV[at + 10] == '1' and not group.listed[topic] then
    enlist(group.members, topic)
    group.listed[topic] = true
  end
  append(group, payload, token, '', {})
end

local function publish_change(at, own)
  local payload, rank, final, entry = ARGV[at + 11], tonumber(ARGV[at + 12]), ARGV[at + 13], ARGV[at + 14]
  if refuses(own, rank, final) then return false end
  local group, entries, token = open_group(at), KEYS[ARGV[at + 1] + 2], ARGV[at + 4]
  permit('EXPIRE', own.meta)
  if entry == '1' then expect_entries(own, entries) end
  local fields = {'rank', rank, unpack(ARGV, at + 15, at + 6 + ARGV[at + 6])}
  rise(own, rank)
  local place = append(own, payload, token, ARGV[at + 5], fields)
  change(own, entries, payload, rank, entry)
  if group then append_to_group(group, at, payload, token) end
  return place
end
"""

# The same of a part. The token of its second message is that of the first and a 2.
_PUBLISH_PART = """
local function publish_part(at, own)
  local first, token, group, answer = ARGV[at + 1], ARGV[at + 4], open_group(at), {}
  local keys = {own.meta, KEYS[first + 3], KEYS[first + 4], KEYS[first + 5]}
  if not own.takes_parts then
    permit('EXPIRE', own.meta)
    expect(own.log, 'stream', 'XADD')
    expect_parts(keys)
    own.takes_parts = true
  end
  for i, told in ipairs(count(keys, {unpack(ARGV, at + 11, at + 6 + ARGV[at + 6])})) do
    local payload, rank, fields = told[1], tonumber(told[2]), told[4]
    fields[#fields + 1], fields[#fields + 2] = 'rank', rank
    rise(own, rank)
    answer[1], answer[i + 1] = append(own, payload, token, ARGV[at + 5], fields), payload
    change(own, nil, payload, rank, '0')
    if group then append_to_group(group, at, payload, token) end
    token = ARGV[at + 4] .. '2'
  end
  return answer
end
"""

_PUBLISH_MANY = """
local function publish(at)
  local kind, first, token = ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 4]
  local own = open(KEYS[first], KEYS[first + 1], ARGV[at + 2])
  if ARGV[at + 3] == '1' then
    local place, payload = find(own, token)
    if place and kind ~= 'part' then return place end
    if place then
      local second, payload_of_second = find(own, token .. '2')
      return {second or place, payload, payload_of_second}
    end
  end
  if kind == 'part' then return publish_part(at, own) end
  if kind == 'change' then return publish_change(at, own) end
  return append(own, ARGV[at + 7], token, ARGV[at + 5], {})
end

local answers, at = {}, 1
while ARGV[at] do
  local done, answer = pcall(publish, at)
  if not done then
    if #answers > 0 then return answers end
    if type(answer) == 'table' then return answer end
    -- Redis before 7 raises a text, in which the server's error follows the place in the script.
    return {err = string.match(answer, '%u%u%u+ .*') or 'ERR ' .. answer}
  end
  answers[#answers + 1] = answer
  at = at + 7 + ARGV[at + 6]
end
return answers
"""


@cache
def script(*, changes: bool, parts: bool, again: bool) -> str:
    """Return the script that publishes messages in their order, with only what these messages need.

    The first that fails ends the call: those after it are not published. Answers what each of the others is
    answered, or the error if it was the first; whoever repeats the rest is told of a later one.

    KEYS of each topic: meta, log, for a change also entries, for a part also parts, shown, lines. Of each
    group, unless it is in another slot: meta, log, members.

    ARGV of each message: `message`, `change` or `part`, the first of its keys, its channel, 1 if it may have
    been published already, token, known, how many words follow; then the payload. Of a change and of a part
    there follow instead the first key of the group or 0, the group's channel, topic, listed; then payload,
    rank, final, entry, fields, or what `count` takes.

    The answer to a message is its place, or false if it is refused; that to a part is the place of the last
    message and all payloads.
    """
    pieces = [PERMIT, LASTING, APPEND]
    if again:
        pieces.append(FIND)
    if changes or parts:
        pieces += [EXPECT, CHANGE, ENLIST, _PUBLISH_CHANGE]
    if parts:
        pieces += [COUNT, _PUBLISH_PART]
    return "".join([*pieces, _PUBLISH_MANY])


# Where the group is in another slot. KEYS of the group: meta, log, members.
# ARGV channel, payload, token, known, topic, listed.
PUBLISH_TO_GROUP = f"""{PERMIT}{LASTING}{EXPECT}{APPEND}{FIND}{ENLIST}
local group = open(KEYS[1], KEYS[2], ARGV[1])
expect(KEYS[2], 'stream', 'XADD')
expect(KEYS[3], 'zset', 'ZADD', 'ZREMRANGEBYRANK', 'EXPIRE')
if find(group, ARGV[3]) then return false end
if ARGV[6] == '1' then enlist(KEYS[3], ARGV[5]) end
return append(group, ARGV[2], ARGV[3], ARGV[4], {{}})
"""

_SEND = f"""{PERMIT}{LASTING}{EXPECT}
local clock = redis.call('TIME')
{CHANGE}{ENLIST}
local function open(meta, members)
  local own = {{meta = meta, rank = tonumber(redis.call('HGET', meta, 'rank') or -1)}}
  permit('HSET', meta)
  permit('EXPIRE', meta)
  expect(members, 'zset', 'ZADD', 'ZREMRANGEBYRANK', 'EXPIRE')
  permit('$COMMAND', ARGV[1])
  permit('$COMMAND', ARGV[2])
  return own
end

local function send(members, payload)
  if ARGV[4] == '1' then enlist(members, ARGV[3]) end
  redis.call('$COMMAND', ARGV[2], payload)
  redis.call('$COMMAND', ARGV[1], payload)
end
"""

# Where no messages are kept. KEYS meta, entries, members.
# ARGV channel, group's channel, topic, listed, payload, rank, final, entry, fields.
SEND_CHANGE = f"""{_SEND}
local own = open(KEYS[1], KEYS[3])
local rank = tonumber(ARGV[6])
if refuses(own, rank, ARGV[7]) then return false end
if ARGV[8] == '1' then expect_entries(own, KEYS[2]) end
redis.call('HSET', KEYS[1], 'rank', rank, unpack(ARGV, 9))
change(own, KEYS[2], ARGV[5], rank, ARGV[8])
send(KEYS[3], ARGV[5])
return true
"""

# The same of a part. KEYS meta, entries, parts, shown, lines, members.
# ARGV channel, group's channel, topic, listed, what `count` takes.
SEND_PART = f"""{_SEND}{COUNT}
local own, keys = open(KEYS[1], KEYS[6]), {{KEYS[1], KEYS[3], KEYS[4], KEYS[5]}}
expect_parts(keys)
for _, m in ipairs(count(keys, {{unpack(ARGV, 5)}})) do
  redis.call('HSET', KEYS[1], 'rank', m[2], unpack(m[4]))
  change(own, nil, m[1], tonumber(m[2]), '0')
  send(KEYS[6], m[1])
end
"""
