-- Returns a message as Pub/Sub carries it: `start`, the sizes of kind and counts in bytes, and after another space
-- kind, counts and payload. `start` is the id, or `FRAME_MARK` where no messages are kept. `frames.py` reads it.
local function frame(start, payload, kind, counts)
  if kind == '' and counts == '' then return start .. ' 0 0 ' .. payload end
  return start .. ' ' .. #kind .. ' ' .. #counts .. ' ' .. kind .. counts .. payload
end
