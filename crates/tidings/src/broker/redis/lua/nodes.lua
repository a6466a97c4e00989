-- Which nodes there are.
--
-- KEYS: ends (node -> until when it is one without saying so again), entries (node -> what it says of itself)
-- ARGV: lineage mode, then `list`; or `stay`, node, entry, ttl_ms; or `leave`, node
-- Reply: for `list` node and entry of each, else nothing

if #KEYS ~= 2 then
  return redis.error_reply('ERR nodes: wrong keys')
end
local _, refusal = lineage_here(ARGV[1])
if refusal then
  return refusal
end
local ends, entries, what = KEYS[1], KEYS[2], ARGV[2]
local now = now_ms()
for _, gone in ipairs(redis.call('ZRANGE', ends, '-inf', text(now), 'BYSCORE')) do
  redis.call('ZREM', ends, gone)
  redis.call('HDEL', entries, gone)
end
local reply = {}
if what == 'stay' then
  local ttl_ms = tonumber(ARGV[5])
  redis.call('ZADD', ends, text(now + ttl_ms), ARGV[3])
  redis.call('HSET', entries, ARGV[3], ARGV[4])
  redis.call('PEXPIRE', ends, text(ttl_ms))
  redis.call('PEXPIRE', entries, text(ttl_ms))
elseif what == 'leave' then
  redis.call('ZREM', ends, ARGV[3])
  redis.call('HDEL', entries, ARGV[3])
else
  for _, node in ipairs(redis.call('ZRANGE', ends, 0, -1)) do
    reply[#reply + 1] = node
    reply[#reply + 1] = redis.call('HGET', entries, node) or ''
  end
end
return reply
