-- Finds the place after a member in the list of a group, the newest first.

-- `after` is the score of a member and its name. It may have been removed meanwhile: then those of its score come again.
local function rank_after(members, after)
  local score, name = string.match(after, '^(%S+) (.*)$')
  local rank = redis.call('ZREVRANK', members, name)
  return rank and rank + 1 or redis.call('ZCOUNT', members, '(' .. score, '+inf')
end
