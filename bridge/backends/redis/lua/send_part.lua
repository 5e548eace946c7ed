-- Counts a part of a canvas and publishes the messages, where no messages are kept.
--
-- requires: change, members, send, canvas
--
-- KEYS    meta, parts, row_order, rows, members of the group
-- ARGV    channel, channel of the group, name of the topic, 1 if the group lists it, else 0; kind or '', payload; what
--         `read_part` takes
-- Answers 1, or false if the part is refused or brings no news.

local canvas = {meta = KEYS[1], parts = KEYS[2], row_order = KEYS[3], rows = KEYS[4]}
local members = KEYS[5]
local channel, group_channel, member, is_listed, kind, payload = unpack(ARGV)
local FIRST_OF_PART = 7

local topic = open_state(canvas.meta, members, channel, group_channel)
require_canvas(canvas)
local part = read_part('', kind, payload, FIRST_OF_PART, #ARGV)
if is_refused(topic, part.message.rank, '0') then return false end
local messages, counts = count(canvas, part)
if not counts then return false end
if is_listed == '1' then add_member(members, member, redis.call('TIME')) end
for _, message in ipairs(messages) do
  redis.call('HSET', canvas.meta, unpack(fields_of(message, counts)))
  apply_change(topic, nil, message.payload, message.rank, '0')
  send(channel, group_channel, message.payload, message.kind, counts)
end
return 1
