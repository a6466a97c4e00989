-- Takes a place for a connection among those of its user on all nodes, or says that there is none.
--
-- KEYS: connections (session -> when its lease ends), since (session -> when it took its place; below zero, when it lost it)
-- ARGV: lineage mode, `take` or `look`, session, session that it takes over or none, max, `refuse` or `oldest`, lease_ms
-- Reply: `n` there is none; else `o` (the oldest had to go) or `y`, since, and the sessions that lose their places
--
-- Who loses a place is kept for a while: its node may not hear of it, and must not renew its lease then.

local LOST_KEPT_MS = 600000

local connections, since = KEYS[1], KEYS[2]
local session, takes_over, policy = ARGV[3], ARGV[4], ARGV[6]
local max, lease_ms = tonumber(ARGV[5]), tonumber(ARGV[7])
if #KEYS ~= 2 or not (max and lease_ms) then
  return redis.error_reply('ERR take: wrong keys or arguments')
end
local _, refusal = lineage_here(ARGV[1])
if refusal then
  return refusal
end

local now = now_ms()
local count = redis.call('ZCOUNT', connections, '(' .. text(now), '+inf')
local old = takes_over ~= '' and redis.call('ZSCORE', connections, takes_over)
local takes_own = old and tonumber(old) > now
local full = not takes_own and count >= max
if full and (policy ~= 'oldest' or max < 1) then
  return { 'n' }
end
local reply = { full and 'o' or 'y', text(now) }
if ARGV[2] == 'look' then
  return reply
end

-- Those of dead nodes.
for _, ended in ipairs(redis.call('ZRANGE', connections, '-inf', text(now), 'BYSCORE')) do
  redis.call('ZREM', connections, ended)
  redis.call('ZREM', since, ended)
end
if count == 0 then
  -- They may have ended together, with their key.
  redis.call('ZREMRANGEBYSCORE', since, '(0', '+inf')
end
local lost = {}
if takes_own then
  redis.call('ZREM', connections, takes_over)
  lost[1] = takes_over
elseif full then
  local wanted = count + 1 - max
  for _, oldest in ipairs(redis.call('ZRANGE', since, '(0', '+inf', 'BYSCORE')) do
    if #lost == wanted then
      break
    end
    if redis.call('ZREM', connections, oldest) == 1 then
      lost[#lost + 1] = oldest
    else
      -- Its lease ended with the key of them all, and others have come back since.
      redis.call('ZREM', since, oldest)
    end
  end
end
redis.call('ZREMRANGEBYSCORE', since, text(LOST_KEPT_MS - now), '(0')
for _, loser in ipairs(lost) do
  redis.call('ZADD', since, '-' .. text(now), loser)
  reply[#reply + 1] = loser
end
redis.call('ZADD', connections, text(now + lease_ms), session)
redis.call('ZADD', since, text(now), session)
redis.call('PEXPIRE', connections, text(lease_ms))
redis.call('PEXPIRE', since, text(lease_ms + LOST_KEPT_MS))
return reply
