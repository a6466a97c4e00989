-- Takes some of a dead node's users out of a room. Called again with what it answers until nothing is left to do.
--
-- KEYS: meta, log, ids:0, ids:1, users, nodes
-- ARGV: fresh epoch, lineage mode, PUBLISH or SPUBLISH, the caller's node, the revision that it has seen, dead node (or
--       nothing), cursor (0 begins), about how many, 1 if it wants to be told what its call has changed
-- Reply: dead node (nothing: no more), the next cursor, how many users there were before, and who has left, as it is
--       carried but with what they have shown

local meta, users, nodes = KEYS[1], KEYS[5], KEYS[6]
local carry, caller, known_rev, node, count = ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6], tonumber(ARGV[8])
if #KEYS ~= 6 or not (known_rev and count and ARGV[7]:match('^%d+$')) then
  return redis.error_reply('ERR sweep: wrong keys or arguments')
end
local lineage, refusal = lineage_here(ARGV[2])
if refusal then
  return refusal
end
local now_ms, cursor = now_in_ms(), ARGV[7]
local room = open(meta, KEYS[2], KEYS[3], KEYS[4], lineage, ARGV[1], 0)
local presence, jumped = open_presence(meta, users, nodes, room, now_ms, known_rev, carry)
-- One that has come back meanwhile is not dead, and puts its users back itself.
local alive_until = node ~= '' and tonumber(redis.call('ZSCORE', nodes, node) or now_ms + 1)
if jumped or not alive_until or alive_until > now_ms then
  node, cursor = dead_node(nodes, now_ms, caller), '0'
end
if jumped or not node then
  return { '', '0', '0', '' }
end
local before = presence.rev
local scanned = redis.call('HSCAN', users, cursor, 'COUNT', count)
local records, observed = {}, {}
for index = 1, #scanned[2], 2 do
  local user, value = scanned[2][index], scanned[2][index + 1]
  local at, info = nodes_and_info(value)
  if at and has_node(at, node) then
    local left = without_node(at, node)
    if left == '' then
      redis.call('HDEL', users, user)
      records[#records + 1] = record('l', user, '')
      observed[#records] = record('l', user, info)
    else
      redis.call('HSET', users, user, left .. ' ' .. info)
    end
  end
end
if scanned[1] == '0' then
  redis.call('ZREM', nodes, node)
  node = dead_node(nodes, now_ms, caller) or ''
end
save_presence(meta, users, carry, room, presence, records)
local told = ARGV[9] == '1' and message_of(room.epoch, before, observed) or ''
return { node, scanned[1], text(presence.count), told }
