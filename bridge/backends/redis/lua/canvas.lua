-- Counts the parts of a canvas, as bridge/model/counts.py does.
--
-- requires: permissions
--
-- `canvas` is a table with the keys `meta`, `parts`, `row_order` and `rows`. `meta` has the text of the counts (size,
-- done, running, succeeded, revoked, failed) and the age of the last row. A message is a table with `token`, `kind`,
-- `payload`, `rank` and `fields` (names and values).

local RUNNING, SUCCEEDED = 1, 2
local AGES = 2 ^ 40  -- more than a row's age can be

local function require_canvas(canvas)
  require_key(canvas.parts, 'hash', 'HSET', 'DEL', 'EXPIRE')
  require_key(canvas.row_order, 'zset', 'ZADD', 'ZREM', 'EXPIRE')
  require_key(canvas.rows, 'hash', 'HSET', 'HDEL', 'EXPIRE')
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
local function keep_row(canvas, part, stage, age)
  local importance = ({1, 0})[stage] or 2
  local known = redis.call('ZSCORE', canvas.row_order, part.name)
  if not known and redis.call('ZCARD', canvas.row_order) >= MAX_ROWS then
    local name, score = unpack(redis.call('ZRANGE', canvas.row_order, 0, 0, 'WITHSCORES'))
    if tonumber(score) >= (importance + 1) * AGES then return end
    redis.call('ZREM', canvas.row_order, name)
    redis.call('HDEL', canvas.rows, name)
  end
  redis.call('ZADD', canvas.row_order, importance * AGES + age, part.name)
  redis.call('HSET', canvas.rows, part.name, part.row)
end

-- Returns size and done, and a table with the number of parts at each stage from RUNNING on.
local function read_counts(text)
  local numbers = {}
  for number in string.gmatch(text or '0 0 0 0 0 0', '%d+') do numbers[#numbers + 1] = tonumber(number) end
  return numbers[1], numbers[2], {[0] = 0, unpack(numbers, 3)}
end

local function expire(canvas, parts_too, seconds)
  if parts_too then redis.call('EXPIRE', canvas.parts, seconds) end
  redis.call('EXPIRE', canvas.row_order, seconds)
  redis.call('EXPIRE', canvas.rows, seconds)
end

-- Counts a part. Returns the messages to publish, in order, and the text of the counts; nothing if the part brings
-- no news. The caller stores the counts.
local function count(canvas, part)
  local reached = redis.call('HGET', canvas.parts, part.name) or '0 0'
  local old_stage, old_value = string.match(reached, '(%d+) (%d+)')
  old_stage, old_value = tonumber(old_stage), tonumber(old_value)
  local is_news = part.stage > old_stage or part.value > old_value
  if old_stage >= SUCCEEDED or not is_news then return {} end
  local stage, value = math.max(part.stage, old_stage), math.max(part.value, old_value)
  local text, age = unpack(redis.call('HMGET', canvas.meta, 'counts', 'age'))
  local size, done, at = read_counts(text)
  local is_first = at[1] + at[2] + at[3] + at[4] == 0
  if part.size > 0 then size = part.size end
  redis.call('HSET', canvas.parts, part.name, stage .. ' ' .. value)
  if part.name ~= '' then  -- a part without a name sets the size only
    done = done + value - old_value
    at[old_stage] = at[old_stage] - 1
    at[stage] = at[stage] + 1
    age = (age or 0) + 1
    redis.call('HSET', canvas.meta, 'age', age)
    keep_row(canvas, part, stage, age)
  end
  expire(canvas, true, UNENDED_SECONDS)
  local counts = string.format('%.0f %.0f %.0f %.0f %.0f %.0f', size, done, unpack(at, 1, 4))
  local is_complete = size > 0 and at[2] + at[3] + at[4] >= size
  local follows = is_complete
  if part.stage == RUNNING then follows = is_first end
  if not part.follow_up or not follows then return {part.message}, counts end
  if part.stage ~= RUNNING then
    redis.call('DEL', canvas.parts)  -- the canvas has ended: whatever follows is refused
    expire(canvas, false, SECONDS)
  end
  return in_order(part), counts
end

-- Returns the fields that a message sets in `meta`.
local function fields_of(message, counts)
  return {'rank', message.rank, 'counts', counts, unpack(message.fields)}
end
