-- Reads a page of the members of a group with the fields of their states, and removes those that have none any more.
--
-- requires: places
--
-- KEYS    members of the group
-- ARGV    what ended the page before this one or ''; how many members to look at; the bytes of a page; 1 to read the
--         states here, 0 to name the members; then what stands before the name of a topic in its keys, and after it in
--         meta
-- Answers states, each as name and fields; the names of members to read elsewhere; the member that ends this page,
--         behind its score, or false if it is the last page.

local members = KEYS[1]
local after, limit, room, read_here, before_name, after_meta = unpack(ARGV)
room = tonumber(room)

local first = after == '' and 0 or rank_after(members, after)
local listed = redis.call('ZREVRANGE', members, first, first + limit - 1, 'WITHSCORES')
local found, names, gone, last = {}, {}, {}, false
for i = 1, #listed, 2 do
  if room <= 0 then break end
  local name, meta = listed[i], before_name .. listed[i] .. after_meta
  first, last = first + 1, listed[i + 1] .. ' ' .. name
  if read_here == '0' then
    names[#names + 1] = name
  elseif redis.call('HEXISTS', meta, 'rank') == 1 then
    local fields = redis.call('HGETALL', meta)
    for _, text in ipairs(fields) do room = room - #text - 64 end
    found[#found + 1] = {name, fields}
  else
    gone[#gone + 1] = name
  end
end
if first >= redis.call('ZCARD', members) then last = false end
-- Without the permission to write they stay, and cost only time.
if #gone > 0 then redis.pcall('ZREM', members, unpack(gone)) end
return {found, names, last}
