-- Counts the parts of a canvas, as bridge/model/counts.py does.
--
-- requires: permissions
--
-- `open_canvas` returns a table with the counts and the age of the last row, which the caller stores. A message is a
-- table with `token`, `kind`, `payload`, `rank` and `fields` (names and values).

local RUNNING, SUCCEEDED = 1, 2
local AGES = 2 ^ 40  -- more than a row's age can be

-- Reads a canvas, and checks what `count` needs.
local function open_canvas(meta, parts, row_order, rows)
  read_key('HLEN', parts)
  read_key('ZCARD', row_order)
  read_key('HLEN', rows)
  for _, command in ipairs({'HSET', 'DEL', 'EXPIRE', 'ZADD', 'ZREM', 'HDEL'}) do require_permission(command, parts) end
  local counts, age = unpack(redis.call('HMGET', meta, 'counts', 'age'))
  return {parts = parts, row_order = row_order, rows = rows, counts = counts, age = tonumber(age or 0)}
end

-- Reads a part from the arguments `first` to `last`: name, size, stage, value, row; rank of the message; how many
-- arguments its fields are, and the fields; if a message follows up: its token, kind, payload, rank and fields.
local function read_part(token, kind, payload, first, last)
  local name, size, stage, value, row, rank, length = unpack(ARGV, first, first + 6)
  local next_message = first + 7 + length
  local part = {
    name = name, size = tonumber(size), stage = tonumber(stage), value = tonumber(value), row = row,
    message = {token = token, kind = kind, payload = payload, rank = tonumber(rank),
               fields = {unpack(ARGV, first + 7, next_message - 1)}},
  }
  if next_message <= last then
    token, kind, payload, rank = unpack(ARGV, next_message, next_message + 3)
    part.follow_up = {token = token, kind = kind, payload = payload, rank = tonumber(rank),
                      fields = {unpack(ARGV, next_message + 4, last)}}
  end
  return part
end

-- Returns the message of a part and the one that follows up, in the order in which they are published.
local function in_order(part)
  if part.stage == RUNNING then return {part.follow_up, part.message} end
  return {part.message, part.follow_up}
end

-- Keeps the row of a part. If there are too many, it replaces the oldest row of the least importance.
local function keep_row(canvas, part, stage)
  local importance = ({1, 0})[stage] or 2
  local known = redis.call('ZSCORE', canvas.row_order, part.name)
  if not known and redis.call('ZCARD', canvas.row_order) >= MAX_ROWS then
    local name, score = unpack(redis.call('ZRANGE', canvas.row_order, 0, 0, 'WITHSCORES'))
    if tonumber(score) >= (importance + 1) * AGES then return end
    redis.call('ZREM', canvas.row_order, name)
    redis.call('HDEL', canvas.rows, name)
  end
  redis.call('ZADD', canvas.row_order, importance * AGES + canvas.age, part.name)
  redis.call('HSET', canvas.rows, part.name, part.row)
end

-- Returns size and done, and a table with the number of parts at each stage from RUNNING on.
local function read_counts(text)
  local numbers = {}
  for number in string.gmatch(text or '0 0 0 0 0 0', '%d+') do numbers[#numbers + 1] = tonumber(number) end
  return numbers[1], numbers[2], {[0] = 0, unpack(numbers, 3)}
end

-- Counts a part. Returns the messages to publish, in order; none if the part brings no news.
local function count(canvas, part)
  local reached = redis.call('HGET', canvas.parts, part.name) or '0 0'
  local old_stage, old_value = string.match(reached, '(%d+) (%d+)')
  old_stage, old_value = tonumber(old_stage), tonumber(old_value)
  local is_news = part.stage > old_stage or part.value > old_value
  if old_stage >= SUCCEEDED or not is_news then return {} end
  local stage, value = math.max(part.stage, old_stage), math.max(part.value, old_value)
  local size, done, at = read_counts(canvas.counts)
  local is_first = at[1] + at[2] + at[3] + at[4] == 0
  if part.size > 0 then size = part.size end
  redis.call('HSET', canvas.parts, part.name, stage .. ' ' .. value)
  if part.name ~= '' then  -- a part without a name sets the size only
    done = done + value - old_value
    at[old_stage] = at[old_stage] - 1
    at[stage] = at[stage] + 1
    canvas.age = canvas.age + 1
    keep_row(canvas, part, stage)
  end
  canvas.seconds = UNENDED_SECONDS
  canvas.counts = string.format('%.0f %.0f %.0f %.0f %.0f %.0f', size, done, unpack(at, 1, 4))
  local is_complete = size > 0 and at[2] + at[3] + at[4] >= size
  local follows = is_complete
  if part.stage == RUNNING then follows = is_first end
  if not part.follow_up or not follows then return {part.message} end
  if part.stage ~= RUNNING then
    redis.call('DEL', canvas.parts)  -- the canvas has ended: whatever follows is refused
    canvas.seconds = SECONDS
  end
  return in_order(part)
end

-- Sets how long the keys of a canvas are kept, if a part was counted. Call it once, at the end.
local function keep_canvas(canvas)
  if not canvas.seconds then return end
  for _, key in ipairs({canvas.parts, canvas.row_order, canvas.rows}) do redis.call('EXPIRE', key, canvas.seconds) end
end
