-- Takes the content of one event of a room back: its place in the log stays, what was in it goes.
--
-- KEYS: meta, log, ids:0, ids:1
-- ARGV: fresh epoch, lineage mode, epoch, offset, what stands in its place
-- Reply: 1, or 0 where no such event is stored

local epoch, offset, instead = ARGV[3], ARGV[4], ARGV[5]
if #KEYS ~= 4 or not (instead and offset:match('^%d+$')) then
  return redis.error_reply('ERR redact: wrong keys or arguments')
end
local lineage, refusal = lineage_here(ARGV[2])
if refusal then
  return refusal
end
local meta, log = KEYS[1], KEYS[2]
local room = open(meta, log, KEYS[3], KEYS[4], lineage, ARGV[1], 0)
-- A position of an earlier epoch is the same event, unless it is one of a fork that was lost.
local counts = epoch == room.epoch
for parent, top in room.parents:gmatch('(%w+)%.(%d+)') do
  counts = counts or parent == epoch and tonumber(offset) <= tonumber(top)
end
local member = counts and redis.call('ZRANGE', log, offset, offset, 'BYSCORE')[1]
if not member then
  return 0
end
local redacted = member:match('^%d+ %d+ ') .. instead
if redacted ~= member then
  -- Added before the other is removed: a log of one event would be gone in between, and its end with it.
  redis.call('ZADD', log, offset, redacted)
  redis.call('ZREM', log, member)
  redis.call('HSET', meta, 'bytes', text(math.max(0, room.bytes - #member + #redacted)))
end
return 1
