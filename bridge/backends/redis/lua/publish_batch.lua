-- Publishes messages in their order, up to the first that fails.
--
-- requires: permissions, append, find, change, group, canvas
--
-- KEYS    of each topic: meta, log; if its state changes also entries; if parts of a canvas are counted instead also
--         parts, row_order, rows. Of each group that is in the same slot: meta, log, members.
-- ARGV    of each message: `message`, `change` or `part`; the index of the first key of its topic; its channel; 1 if
--         it may have been published before, else 0; token; the last id that the publisher had confirmed or ''; kind
--         or ''; payload; how many arguments follow.
--         Of a change and of a part there follow: the index of the first key of the group or 0; the group's channel;
--         the name of the topic; 1 if the group lists it, else 0. Then of a change: rank; 1 if it is final, else 0; 1
--         if the message is an entry, else 0; names and values of fields. Of a part: what `read_part` takes.
-- Answers a list. Of a message and of a change: the id, or false if the change is refused. Of a part: the last id, the
--         counts, and the tokens of the messages in order; nothing if the part brings no news. Messages from the
--         first that fails on have no item: the publisher repeats them. If the first one fails, its error.

local HEADER = 9

-- Returns the group of the message at `at`, or nil if it is in another slot. Checks what it needs.
local function group_of(at)
  local first, channel = tonumber(ARGV[at + HEADER]), ARGV[at + HEADER + 1]
  if first == 0 then
    require_permission(PUBLISH_COMMAND, channel)
    return nil
  end
  return open_group(KEYS[first], KEYS[first + 1], KEYS[first + 2], channel)
end

local function publish_change(topic, at, last, first, token, known, kind, payload)
  local member, is_listed, rank, final, is_entry = unpack(ARGV, at + HEADER + 2, at + HEADER + 6)
  local entries = KEYS[first + 2]
  rank = tonumber(rank)
  if is_refused(topic, rank, final) then return false end
  local group = group_of(at)
  require_permission('EXPIRE', topic.meta)
  if is_entry == '1' then require_entries(topic, entries) end
  check_known(topic, known)
  set_rank(topic, rank)
  local fields = {'rank', rank, unpack(ARGV, at + HEADER + 7, last)}
  local id = append(topic, payload, token, kind, '', fields)
  apply_change(topic, entries, payload, rank, is_entry)
  if group then append_to_group(group, member, is_listed, payload, token, kind, '') end
  return id
end

-- Returns the answer to a part that was published before, or nil.
local function find_part(topic, part)
  local id, counts = find(topic, part.message.token)
  local follow_up_id, follow_up_counts
  if part.follow_up then follow_up_id, follow_up_counts = find(topic, part.follow_up.token) end
  if not follow_up_id then return id and {id, counts, part.message.token} end
  local first, second = unpack(in_order(part))
  local last_id = second == part.message and id or follow_up_id
  return {last_id, follow_up_counts, first.token, second.token}
end

local function publish_part(topic, at, last, first, token, known, kind, payload, may_be_repeated)
  local member, is_listed = unpack(ARGV, at + HEADER + 2, at + HEADER + 3)
  local part = read_part(token, kind, payload, at + HEADER + 4, last)
  local found = may_be_repeated and find_part(topic, part)
  if found then return found end
  if is_refused(topic, part.message.rank, '0') then return {} end
  local group = group_of(at)
  local canvas = {meta = topic.meta, parts = KEYS[first + 2], row_order = KEYS[first + 3], rows = KEYS[first + 4]}
  if not topic.canvas_checked then
    require_permission('EXPIRE', topic.meta)
    require_key(topic.log, 'stream', 'XADD')
    require_canvas(canvas)
    topic.canvas_checked = true
  end
  check_known(topic, known)
  local messages, counts = count(canvas, part)
  local answer = {false, counts}
  for _, message in ipairs(messages) do
    set_rank(topic, message.rank)
    answer[1] = append(topic, message.payload, message.token, message.kind, counts, fields_of(message, counts))
    apply_change(topic, nil, message.payload, message.rank, '0')
    if group then
      append_to_group(group, member, is_listed, message.payload, message.token, message.kind, counts)
    end
    answer[#answer + 1] = message.token
  end
  return counts and answer or {}
end

local function publish(at)
  local form, first, channel, may_be_repeated, token, known, kind, payload, length = unpack(ARGV, at, at + HEADER - 1)
  local last = at + HEADER + length - 1
  first, may_be_repeated = tonumber(first), may_be_repeated == '1'
  local topic = open_topic(KEYS[first], KEYS[first + 1], channel)
  if form == 'part' then
    return publish_part(topic, at, last, first, token, known, kind, payload, may_be_repeated)
  end
  local id = may_be_repeated and find(topic, token)
  if id then return id end
  if form == 'change' then return publish_change(topic, at, last, first, token, known, kind, payload) end
  check_known(topic, known)
  return append(topic, payload, token, kind, '')
end

local answers, at = {}, 1
while ARGV[at] do
  local succeeded, answer = pcall(publish, at)
  if not succeeded then
    if #answers > 0 then return answers end
    if type(answer) == 'table' then return answer end
    -- Redis before 7 raises a text, in which the server's error follows the place in the script.
    return {err = string.match(answer, '%u%u%u+ .*') or 'ERR ' .. answer}
  end
  answers[#answers + 1] = answer
  at = at + HEADER + ARGV[at + HEADER - 1]
end
return answers
