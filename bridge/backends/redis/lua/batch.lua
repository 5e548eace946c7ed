-- Publishes messages and applies their changes, up to the first message that fails.
--
-- requires: append, change, members
--
-- The arguments of a call are records: a form, the number of arguments that follow, and these arguments.
--   topic    index of its first key, channel, the last id that the publisher had confirmed or ''
--   group    the same of a group
--   channel  the channel of a group whose keys are in another slot
--   groups   index of the first key of a topic; of each of its groups the index of the first key, the name of the
--            topic if the group lists it or '', and how many members it lists
--   message  index of the first key of its topic, token, kind or '', payload
--   change   as a message; then rank, 1 if it is final else 0, names and values of fields
--   entry    as a change; the message joins the entries of the topic
-- The keys of a topic are meta, log, entries; those of a group are meta, log, members. The record of a topic or of a
-- group comes before the records that need it. A topic has the groups of the last such record.
--
-- The answer is a list with an item for each message: its id, or false if its change is refused. Messages from the
-- first that fails on have no item: the publisher repeats them. If the first one fails, the answer is its error.
--
-- The fields of a state are set once for each topic, and the messages of a topic are published together.

local topics = {}  -- those of this call, by the key of their hash

-- Appends a message, which `publish_topic` publishes later. Returns its id.
local function add(topic, payload, token, kind, counts, sizes)
  local id = append(topic, payload, token, kind, counts)
  local texts = topic.texts
  if texts then
    local count = #texts
    texts[count + 1], texts[count + 2], texts[count + 3] = kind, counts, payload
    topic.sizes = topic.sizes .. sizes
  else
    topic.first_id, topic.sizes, topic.texts = id, sizes, {kind, counts, payload}
  end
  return id
end

-- Checks what `add_to_groups` needs.
local function require_member(groups)
  for i = 1, #groups, 3 do
    local group, member = groups[i], groups[i + 1]
    if member ~= '' and group.listed[member] == nil then
      group.listed[member] = is_member(group.members, member)
    end
  end
end

local function add_to_groups(groups, payload, token, kind, counts, sizes)
  for i = 1, #groups, 3 do
    local group, member = groups[i], groups[i + 1]
    if group.listed[member] == false then
      add_member(group.members, member, clock, groups[i + 2])
      group.listed[member] = true
    end
    add(group, payload, token, kind, counts, sizes)
  end
end

local function publish_message(from, last)
  local first, token, kind, payload = unpack(ARGV, from, last)
  return add(topics[KEYS[tonumber(first)]], payload, token, kind, '', sizes_of(payload, kind, ''))
end

local function publish_change(form, from, last)
  local first, token, kind, payload, rank, final = unpack(ARGV, from, from + 5)
  local topic = topics[KEYS[tonumber(first)]]
  rank = tonumber(rank)
  if is_refused(topic, rank, final) then return false end
  require_member(topic.groups)
  if form == 'entry' and not topic.new_entries then
    require_entries(topic, topic.entries)
    topic.new_entries = {}
  end
  local sizes = sizes_of(payload, kind, '')
  set_rank(topic, rank)
  local id = add(topic, payload, token, kind, '', sizes)
  for i = from + 6, last, 2 do topic.fields[ARGV[i]] = ARGV[i + 1] end
  if form == 'entry' then topic.new_entries[#topic.new_entries + 1] = payload end
  add_to_groups(topic.groups, payload, token, kind, '', sizes)
  return id
end

-- Opens the topic or group that a record describes, unless it is open.
local function open(form, from, last)
  local index, channel, known = unpack(ARGV, from, last)
  local first = tonumber(index)
  local meta, log, third = KEYS[first], KEYS[first + 1], KEYS[first + 2]
  local topic = topics[meta] or open_topic(meta, log, channel, known)
  if form == 'topic' then
    topic.entries, topic.fields, topic.groups = third, topic.fields or {}, topic.groups or {}
  elseif not topic.listed then
    read_key('XLEN', log)
    topic.members, topic.listed = third, {}
  end
  topics[meta] = topic
end

-- Notes the groups of a topic: a list of a group, the name of the member, how many it lists, and so on.
local function set_groups(from, last)
  local groups = {}
  for i = from + 1, last, 3 do
    local count = #groups
    groups[count + 1], groups[count + 2], groups[count + 3] = topics[KEYS[tonumber(ARGV[i])]], ARGV[i + 1], ARGV[i + 2]
  end
  topics[KEYS[tonumber(ARGV[from])]].groups = groups
end

-- Does what a record says. Returns the answer to a message.
local function publish_record(form, from, last)
  if form == 'message' then return publish_message(from, last) end
  if form == 'change' or form == 'entry' then return publish_change(form, from, last) end
  if form == 'channel' then
    require_permission(PUBLISH_COMMAND, ARGV[from])
  elseif form == 'groups' then
    set_groups(from, last)
  else
    open(form, from, last)
  end
end

local function publish_topic(topic)
  if topic.new_entries and #topic.new_entries > 0 then
    add_entries(topic, topic.entries, unpack(topic.new_entries))
  end
  local fields = {}
  if topic.rank >= 0 then fields[1], fields[2] = 'rank', topic.rank end
  for name, value in pairs(topic.fields or {}) do
    fields[#fields + 1], fields[#fields + 2] = name, value
  end
  store(topic, topic.entries, unpack(fields))
  publish(topic, topic.first_id, topic.sizes, '', table.concat(topic.texts))
end

local function publish_records(answers, publish_one)
  local at = 1
  while ARGV[at] do
    local last = at + 1 + ARGV[at + 1]
    answers[#answers + 1] = publish_one(ARGV[at], at + 2, last)
    at = last + 1
  end
end

-- Calls a function such as `publish_record` for each record. Returns the answer of the script.
local function publish_all(publish_one)
  local answers = {}
  local succeeded, problem = pcall(publish_records, answers, publish_one)
  for _, topic in pairs(topics) do
    if topic.texts then publish_topic(topic) end
  end
  if succeeded or #answers > 0 then return answers end
  if type(problem) == 'table' then return problem end
  -- Redis before 7 raises a text, in which the server's error follows the place in the script.
  return {err = string.match(problem, '%u%u%u+ .*') or 'ERR ' .. problem}
end
