"""The counting of wholes on the server: `Tally` of bridge/model/counts.py, in Lua."""

# Answers what is to be published, each with its rank, its finality and its fields; nothing if it is no news.
#
# `keys` are meta, parts, shown, lines. `said` is name, size, stage, value, line and endings of a part, then
# the message and, where there is one, its turn: payload, rank, finality, how many words its fields are, and
# those words.
COUNT = """
local function show(keys, name, stage, line, age)
  local importance = ({1, 0})[stage] or 2
  if not redis.call('ZSCORE', keys[3], name) and redis.call('ZCARD', keys[3]) >= $LINES then
    local least = redis.call('ZRANGE', keys[3], 0, 0, 'WITHSCORES')
    if tonumber(least[2]) >= (importance + 1) * 2 ^ 40 then return end
    redis.call('ZREM', keys[3], least[1])
    redis.call('HDEL', keys[4], least[1])
  end
  redis.call('ZADD', keys[3], importance * 2 ^ 40 + age, name)
  redis.call('HSET', keys[4], name, line)
end

local function messages_in(said, marks)
  local messages, at = {}, 7
  local function pasted(text) return (string.gsub(text, '[\\1-\\9]', marks)) end
  while said[at] do
    local fields = {}
    for i = at + 4, at + 3 + said[at + 3] do fields[#fields + 1] = pasted(said[i]) end
    messages[#messages + 1] = {pasted(said[at]), said[at + 1], said[at + 2], fields}
    at = at + 4 + said[at + 3]
  end
  return messages
end

local function figures(at, size, sum, endings)
  local words, worst, ended = {}, 1, at[2] + at[3] + at[4]
  for word in string.gmatch(endings, '%S+') do words[#words + 1] = word end
  for i = 2, 3 do if at[i + 1] > 0 then worst = i end end
  local total = size > 0 and size or at[1] + ended
  local percent = string.format('%.2f', size > 0 and math.floor(sum / size) / 100 or 0)
  local shown = {ended, percent, words[worst], total - at[1] - ended, at[1], at[2], at[3], at[4], total}
  local marks = {}
  for i, figure in ipairs(shown) do
    marks[string.char(i)] = type(figure) == 'number' and string.format('%.0f', figure) or figure
  end
  return marks
end

local function count(keys, said)
  local name, size, stage, value = said[1], tonumber(said[2]), tonumber(said[3]), tonumber(said[4])
  local held = redis.call('HMGET', keys[1], 'rank', 'sum', 'age', 'stage1', 'stage2', 'stage3', 'stage4')
  if tonumber(said[8]) < tonumber(held[1] or -1) then return {} end
  local had = redis.call('HGET', keys[2], name) or '0 0'
  local stage_had, value_had = string.match(had, '(%d+) (%d+)')
  stage_had, value_had = tonumber(stage_had), tonumber(value_had)
  if stage_had > 1 or (stage <= stage_had and value <= value_had) then return {} end
  stage, value = math.max(stage, stage_had), math.max(value, value_had)
  if size == 0 then size = tonumber(string.match(redis.call('HGET', keys[2], '') or '', '%d+$') or 0) end
  local sum, age, at = tonumber(held[2] or 0), (held[3] or 0) + 1, {}
  for i = 1, 4 do at[i] = tonumber(held[3 + i] or 0) end
  redis.call('HSET', keys[2], name, stage .. ' ' .. value)
  if name ~= '' then
    sum = sum + value - value_had
    if stage_had > 0 then at[stage_had] = at[stage_had] - 1 end
    at[stage] = at[stage] + 1
    redis.call('HSET', keys[1], 'sum', sum, 'age', age,
               'stage1', at[1], 'stage2', at[2], 'stage3', at[3], 'stage4', at[4])
    show(keys, name, stage, said[5], age)
  end
  for i = 2, 4 do redis.call('EXPIRE', keys[i], $UNENDED) end
  local messages, ended = messages_in(said, figures(at, size, sum, said[6])), at[2] + at[3] + at[4]
  if not messages[2] then return messages end
  if stage == 1 and stage_had == 0 and at[1] == 1 and ended == 0 then return {messages[2], messages[1]} end
  if stage == 1 or size == 0 or ended < size then return {messages[1]} end
  redis.call('DEL', keys[2])  -- whatever is said from now on is refused
  for i = 3, 4 do redis.call('EXPIRE', keys[i], $SECONDS) end
  return messages
end
"""
