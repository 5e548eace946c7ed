-- Checks that this call may write to a key, before it writes anything.
--
-- A message that the server refuses must not be written in part. So a script checks the types of its keys and
-- the user's permissions before its first write. Redis before 7 cannot be asked for permissions: there a missing
-- permission fails when it is needed.

local function require_permission(command, name)
  if redis.acl_check_cmd and not redis.acl_check_cmd(command, name) then
    error({err = 'NOPERM the user has no permission to run ' .. command .. ' on ' .. name})
  end
end

-- Requires that `key` holds a value of this type or nothing, and that the user may run the commands on it.
local function require_key(key, type_needed, ...)
  local type_found = redis.call('TYPE', key).ok
  if type_found ~= type_needed and type_found ~= 'none' then
    error({err = 'WRONGTYPE the key ' .. key .. ' holds a ' .. type_found .. ' where a ' .. type_needed ..
                 ' is needed'})
  end
  for _, command in ipairs({...}) do require_permission(command, key) end
end
