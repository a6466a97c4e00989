-- The newest position of each of several rooms; in Redis Cluster of one. Makes the rooms that are not there.
--
-- KEYS: meta, log, ids:0, ids:1, of each room
-- ARGV: fresh epoch, lineage mode
-- Reply: `EPOCH.OFFSET` of each room

if #KEYS % 4 ~= 0 then
  return redis.error_reply('ERR positions: wrong keys')
end
local lineage, refusal = lineage_here(ARGV[2])
if refusal then
  return refusal
end
local reply = {}
for key = 1, #KEYS, 4 do
  local room = open(KEYS[key], KEYS[key + 1], KEYS[key + 2], KEYS[key + 3], lineage, ARGV[1], 0)
  reply[#reply + 1] = room.epoch .. '.' .. text(room.seq)
end
return reply
