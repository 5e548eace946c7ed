-- Returns for how many seconds a topic with a state of this rank is kept. Without a state the rank is -1.
local function seconds_kept(rank)
  return rank >= 0 and rank < END_RANK and UNENDED_SECONDS or SECONDS
end
