-- Counts a part of a canvas and publishes the messages, where no messages are kept.
--
-- requires: change, send, canvas
--
-- KEYS    meta, parts, row_order, rows, members of each group
-- ARGV    channel; kind or ''; payload; the number of groups; the groups; what `read_part` takes
-- Answers 1, or false if the part is refused or brings no news.

local meta, parts, row_order, rows = unpack(KEYS, 1, 4)
local channel, kind, payload = unpack(ARGV, 1, 3)

local topic = open_state(meta, channel)
local unlisted = open_groups(5)
local canvas = open_canvas(meta, parts, row_order, rows)
local part = read_part('', kind, payload, last_group + 2, #ARGV)
if is_refused(topic, part.message.rank, '0') then return false end
local messages = count(canvas, part)
if #messages == 0 then return false end
keep_canvas(canvas)
for _, message in ipairs(messages) do
  set_state(topic, unlisted, message.rank, 'counts', canvas.counts, 'age', canvas.age, unpack(message.fields))
  send(channel, message.payload, message.kind, canvas.counts)
end
return 1
