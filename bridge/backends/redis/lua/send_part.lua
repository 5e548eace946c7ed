-- Counts a part of a canvas and publishes the messages, where no messages are kept.
--
-- requires: change, send, canvas
--
-- KEYS    meta, parts, row_order, rows, members of the group
-- ARGV    channel, channel of the group, the name of the topic if the group lists it or '', kind or '', payload; what
--         `read_part` takes
-- Answers 1, or false if the part is refused or brings no news.

local meta, parts, row_order, rows, members = unpack(KEYS)
local channel, group_channel, member, kind, payload = unpack(ARGV, 1, 5)
local FIRST_OF_PART = 6

local topic = open_state(meta, channel, group_channel)
local canvas = open_canvas(meta, parts, row_order, rows)
local part = read_part('', kind, payload, FIRST_OF_PART, #ARGV)
if is_refused(topic, part.message.rank, '0') then return false end
local is_listed = member == '' or is_member(members, member)
local messages = count(canvas, part)
if #messages == 0 then return false end
keep_canvas(canvas)
if not is_listed then add_member(members, member, redis.call('TIME')) end
for _, message in ipairs(messages) do
  set_state(topic, message.rank, 'counts', canvas.counts, 'age', canvas.age, unpack(message.fields))
  send(channel, group_channel, message.payload, message.kind, canvas.counts)
end
return 1
