-- Stores what every node has to do for a user or a token, until the last node that may have missed it has read it.
--
-- KEYS: order (id -> when, never twice the same), values (id -> value)
-- ARGV: lineage mode, id, value (a number, of which the highest counts, or nothing), age_max_ms, max, `missing` if it is
--       stored only where it is not, or nothing, a name for the list if it begins with this
-- Reply: when, or `f` where as many are stored as may be

local order, values = KEYS[1], KEYS[2]
local id, value = ARGV[2], ARGV[3]
local age_max_ms, max = tonumber(ARGV[4]), tonumber(ARGV[5])
if #KEYS ~= 2 or not (age_max_ms and max) then
  return redis.error_reply('ERR order: wrong keys or arguments')
end
local _, refusal = lineage_here(ARGV[1])
if refusal then
  return refusal
end
local now = now_ms()
-- A call does bounded work: the rest goes with the next ones.
for _, old in ipairs(redis.call('ZRANGE', order, '-inf', text(now - age_max_ms), 'BYSCORE', 'LIMIT', 0, 256)) do
  redis.call('ZREM', order, old)
  redis.call('HDEL', values, old)
end
local stored = redis.call('ZSCORE', order, id)
local has_value = value == '' or redis.call('HEXISTS', values, id) == 1
if stored and has_value and ARGV[6] == 'missing' then
  return text(tonumber(stored))
end
if not stored and redis.call('ZCARD', order) >= max then
  return 'f'
end
-- Whoever has read up to the newest must find this one behind it, whatever the clock says.
local newest = redis.call('ZRANGE', order, 0, 0, 'REV', 'WITHSCORES')[2]
local at = math.max(now, newest and tonumber(newest) + 1 or 0)
if value ~= '' then
  local known = tonumber(redis.call('HGET', values, id) or '')
  redis.call('HSET', values, id, text(math.max(tonumber(value), known or 0)))
end
redis.call('ZADD', order, text(at), id)
-- No order has this id. Either key may be lost without the other.
redis.call(newest and 'HSETNX' or 'HSET', values, '', ARGV[7])
redis.call('PEXPIRE', order, text(age_max_ms))
redis.call('PEXPIRE', values, text(age_max_ms))
return text(at)
