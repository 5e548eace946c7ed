-- Checks that this call may write to a key, before it writes anything.
--
-- A message that the server refuses must not be written in part. So a script checks the types of its keys and
-- the user's permissions before its first write. Redis before 7 cannot be asked for permissions: there a missing
-- permission fails when it is needed.
--
-- The server starts a script only if the user may read and write all its keys. So it is enough to check a command
-- with one of them.

local function require_permission(command, name)
  if redis.acl_check_cmd and not redis.acl_check_cmd(command, name) then
    error({err = 'NOPERM the user has no permission to run ' .. command .. ' on ' .. name})
  end
end

-- Runs a command that reads `key`. If the key holds a value of another type, the error names it.
local function read_key(command, key, ...)
  local answer = redis.pcall(command, key, ...)
  if type(answer) ~= 'table' then return answer end
  local text = answer.err
  if string.find(text, 'WRONGTYPE', 1, true) then
    local type_found = redis.call('TYPE', key).ok
    text = 'WRONGTYPE the key ' .. key .. ' holds a ' .. type_found .. ', which ' .. command .. ' does not read'
  end
  error(redis.acl_check_cmd and {err = text} or text)  -- Redis before 7 takes only a text
end
