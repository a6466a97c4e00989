-- Renews the leases of several users' connections, and gives places back; in Redis Cluster those of one user. A place
-- that Redis has lost is taken again.
--
-- KEYS: connections, since, of each user
-- ARGV: lineage mode, lease_ms, then for each user: how many sessions, then for each: session, and when it took its
--       place, or nothing if it gives it back
-- Reply: the sessions whose places others have taken

local LOST_KEPT_MS = 600000

local lease_ms = tonumber(ARGV[2])
if #KEYS % 2 ~= 0 or not lease_ms then
  return redis.error_reply('ERR renew: wrong keys or arguments')
end
local _, refusal = lineage_here(ARGV[1])
if refusal then
  return refusal
end
local ends = text(now_ms() + lease_ms)
local at, lost = 3, {}
for key = 1, #KEYS, 2 do
  local connections, since, renewed = KEYS[key], KEYS[key + 1], false
  for _ = 1, tonumber(ARGV[at]) do
    local session, taken = ARGV[at + 1], ARGV[at + 2]
    at = at + 2
    if taken == '' then
      redis.call('ZREM', connections, session)
      redis.call('ZREM', since, session)
    else
      local known = redis.call('ZSCORE', since, session)
      if known and tonumber(known) < 0 then
        lost[#lost + 1] = session
      else
        redis.call('ZADD', connections, ends, session)
        redis.call('ZADD', since, taken, session)
        renewed = true
      end
    end
  end
  at = at + 1
  if renewed then
    redis.call('PEXPIRE', connections, text(lease_ms))
    redis.call('PEXPIRE', since, text(lease_ms + LOST_KEPT_MS))
  end
end
return lost
