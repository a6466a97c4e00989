-- What every node has to do and was stored after a moment, oldest first.
--
-- KEYS: order, values
-- ARGV: lineage mode, moment, how many at most
-- Reply: the server's time in ms, the newest moment of all, the list's name (another one if it was lost and has begun
--        anew), then for each: id, moment, value or nothing

if #KEYS ~= 2 or not tonumber(ARGV[2]) then
  return redis.error_reply('ERR orders: wrong keys or arguments')
end
local _, refusal = lineage_here(ARGV[1])
if refusal then
  return refusal
end
local newest = redis.call('ZRANGE', KEYS[1], 0, 0, 'REV', 'WITHSCORES')[2]
local reply = { text(now_ms()), text(tonumber(newest or '0')), redis.call('HGET', KEYS[2], '') or '' }
local found = redis.call('ZRANGE', KEYS[1], '(' .. ARGV[2], '+inf', 'BYSCORE', 'LIMIT', 0, ARGV[3], 'WITHSCORES')
for index = 1, #found, 2 do
  reply[#reply + 1] = found[index]
  reply[#reply + 1] = text(tonumber(found[index + 1]))
  reply[#reply + 1] = redis.call('HGET', KEYS[2], found[index]) or ''
end
return reply
