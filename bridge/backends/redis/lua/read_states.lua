-- Reads a page of the state of a topic and, if it is a group, of the states of its members.
--
-- requires: places
--
-- KEYS    meta of the topic, members of the topic
-- ARGV    the name of the topic; what ended the page before this one or ''; the bytes of a page; how many
--         members to name where they are in other slots, 0 to read them here; then what stands before the name of a
--         topic in its keys, and what stands after it in meta, entries and rows
-- Answers epoch, number and mark of the topic; states, each as name, meta, entries, rows; the names of members to read
--         elsewhere; the member that ends this page, behind its score, or false if it is the last page. Readers get
--         the newest MAX_MEMBERS members of a group; `read_listed` reads all.

local meta, members = KEYS[1], KEYS[2]
local topic, after, room, max_named, before_name, after_meta, after_entries, after_rows = unpack(ARGV)
local MAX_MEMBERS_READ = 200
room, max_named = tonumber(room), tonumber(max_named)

local found = {}

local function bytes_in(texts)
  local bytes = 0
  for _, text in ipairs(texts) do bytes = bytes + #text + 64 end
  return bytes
end

local function add(name)
  local key = before_name .. name
  if redis.call('HEXISTS', key .. after_meta, 'rank') == 0 then return end
  local fields = redis.call('HGETALL', key .. after_meta)
  local entries = redis.call('LRANGE', key .. after_entries, 0, -1)
  local rows = redis.call('HVALS', key .. after_rows)
  found[#found + 1] = {name, fields, entries, rows}
  room = room - bytes_in(fields) - bytes_in(entries) - bytes_in(rows)
end

local head = redis.call('HMGET', meta, 'epoch', 'number', 'mark')
local first = 0
if after == '' then
  add(topic)
else
  first = rank_after(members, after)
end
local read_here = max_named == 0
local limit = read_here and MAX_MEMBERS_READ or max_named
local names, last = redis.call('ZREVRANGE', members, first, math.min(first + limit, MAX_MEMBERS) - 1), false
if read_here then
  for _, name in ipairs(names) do
    if room <= 0 and last then break end
    add(name)
    first, last = first + 1, name
  end
else
  first, last = first + #names, names[#names]
end
if first >= math.min(redis.call('ZCARD', members), MAX_MEMBERS) then last = false end
if last then last = (redis.call('ZSCORE', members, last) or 0) .. ' ' .. last end
return {head, found, read_here and {} or names, last}
