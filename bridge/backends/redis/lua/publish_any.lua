-- Publishes messages of all kinds: also parts of canvases, and messages that may have been published before.
--
-- requires: batch, find, canvas
--
-- KEYS    of each topic and group, as `batch` describes; of a canvas: meta, log, parts, row_order, rows
-- ARGV    records, as `batch` describes, and of these forms:
--         canvas    as a topic
--         part      as a message; then what `read_part` takes
--         repeated  form and arguments of a message that may have been published before
-- Answers what `batch` describes. Of a part: the last id, the counts, and the tokens of the messages in order;
--         nothing if the part brings no news.

local function open_canvas_topic(from, last)
  local index, channel, known = unpack(ARGV, from, last)
  local first = tonumber(index)
  local meta, log, parts, row_order, rows = unpack(KEYS, first, first + 4)
  local topic = topics[meta] or open_topic(meta, log, channel, known)
  read_key('XLEN', log)
  require_upkeep(log)
  topic.canvas, topic.fields = open_canvas(meta, parts, row_order, rows), topic.fields or {}
  topic.groups = topic.groups or {}
  topics[meta] = topic
end

local function publish_part(from, last)
  local first, token, kind, payload = unpack(ARGV, from, from + 3)
  local topic = topics[KEYS[tonumber(first)]]
  local part = read_part(token, kind, payload, from + 4, last)
  if is_refused(topic, part.message.rank, '0') then return {} end
  require_member(topic.groups)
  local canvas, fields, answer = topic.canvas, topic.fields, {false, false}
  for _, message in ipairs(count(canvas, part)) do
    local text, counts = message.payload, canvas.counts
    local sizes = sizes_of(text, message.kind, counts)
    set_rank(topic, message.rank)
    answer[1], answer[2] = add(topic, text, message.token, message.kind, counts, sizes), counts
    answer[#answer + 1] = message.token
    fields.counts, fields.age = counts, canvas.age
    for i = 1, #message.fields, 2 do fields[message.fields[i]] = message.fields[i + 1] end
    add_to_groups(topic.groups, text, message.token, message.kind, counts, sizes)
  end
  return answer[1] and answer or {}
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

local function find_message(form, from, last)
  local first, token, kind, payload = unpack(ARGV, from, from + 3)
  local topic = topics[KEYS[tonumber(first)]]
  if form == 'part' then return find_part(topic, read_part(token, kind, payload, from + 4, last)) end
  return (find(topic, token))
end

local function publish_any(form, from, last)
  if form == 'canvas' then return open_canvas_topic(from, last) end
  if form == 'part' then return publish_part(from, last) end
  if form ~= 'repeated' then return publish_record(form, from, last) end
  form, from = ARGV[from], from + 1
  return find_message(form, from, last) or publish_any(form, from, last)
end

local answer = publish_all(publish_any)
for _, topic in pairs(topics) do
  if topic.canvas then keep_canvas(topic.canvas) end
end
return answer
