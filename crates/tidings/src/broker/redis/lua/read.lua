-- Where a room's log stands, and what it holds after an offset. Makes the room if there is none, so that everybody
-- who reads has a position.
--
-- KEYS: meta, log, ids:0, ids:1
-- ARGV: fresh epoch, lineage mode, offset or `-inf`, events_max, bytes_max
-- Reply: epoch, top, oldest, parents, then the events as the log keeps them

local events_max, bytes_max = tonumber(ARGV[4]), tonumber(ARGV[5])
if #KEYS ~= 4 or not (events_max and bytes_max and (ARGV[3] == '-inf' or ARGV[3]:match('^%d+$'))) then
  return redis.error_reply('ERR read: wrong keys or arguments')
end
local lineage, refusal = lineage_here(ARGV[2])
if refusal then
  return refusal
end
local room = open(KEYS[1], KEYS[2], KEYS[3], KEYS[4], lineage, ARGV[1], 0)
local reply = { room.epoch, text(room.seq), log_oldest(KEYS[2]) or text(room.seq + 1), room.parents }
log_read(KEYS[2], ARGV[3], events_max, bytes_max, reply)
return reply
