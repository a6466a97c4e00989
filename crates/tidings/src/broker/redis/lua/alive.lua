-- A node is alive in several rooms, in Redis Cluster in one; where the revisions of their presence stand.
--
-- KEYS: meta, log, ids:0, ids:1, users, nodes, of each room
-- ARGV: fresh epoch, lineage mode, PUBLISH or SPUBLISH, node, for how many ms it counts as alive, then of each room: the
--       revision that it has seen, `1` if it has users there and is to count as alive
-- Reply: of each room EPOCH.REV, whether some node is dead

local carry, node, lease_ms = ARGV[3], ARGV[4], tonumber(ARGV[5])
if #KEYS % 6 ~= 0 or #ARGV ~= 5 + #KEYS / 3 or not lease_ms then
  return redis.error_reply('ERR alive: wrong keys or arguments')
end
local lineage, refusal = lineage_here(ARGV[2])
if refusal then
  return refusal
end
local now_ms = now_in_ms()
local reply = {}
for index = 0, #KEYS / 6 - 1 do
  local key = index * 6
  local meta, users, nodes = KEYS[key + 1], KEYS[key + 5], KEYS[key + 6]
  local room = open(meta, KEYS[key + 2], KEYS[key + 3], KEYS[key + 4], lineage, ARGV[1], 0)
  local known_rev = tonumber(ARGV[6 + index * 2]) or 0
  local presence, jumped = open_presence(meta, users, nodes, room, now_ms, known_rev, carry)
  if ARGV[7 + index * 2] == '1' and not jumped then
    redis.call('ZADD', nodes, text(now_ms + lease_ms), node)
    redis.call('EXPIRE', nodes, PRESENCE_TTL_S)
    redis.call('EXPIRE', users, PRESENCE_TTL_S)
  end
  reply[#reply + 1] = room.epoch .. '.' .. text(presence.rev)
  reply[#reply + 1] = dead_node(nodes, now_ms, node) and '1' or '0'
end
return reply
