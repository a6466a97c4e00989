-- Some of a room's users, in no order: pages of one reading have all who are there from its beginning to its end.
--
-- KEYS: meta, log, ids:0, ids:1, users, nodes
-- ARGV: fresh epoch, lineage mode, PUBLISH or SPUBLISH, node, the revision that it has seen, cursor (0 begins), about
--       how many, `jump` if the revision is to jump first
-- Reply: EPOCH.REV, for how many ms it has not jumped because something was lost, whether some node is dead, the next
--        cursor (0: no more), then for each user: user, whether he is at this node, info

local meta, users, nodes = KEYS[1], KEYS[5], KEYS[6]
local carry, node, known_rev, count = ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[7])
if #KEYS ~= 6 or not (known_rev and count and ARGV[6]:match('^%d+$')) then
  return redis.error_reply('ERR members: wrong keys or arguments')
end
local lineage, refusal = lineage_here(ARGV[2])
if refusal then
  return refusal
end
local now_ms = now_in_ms()
local room = open(meta, KEYS[2], KEYS[3], KEYS[4], lineage, ARGV[1], 0)
local presence, jumped = open_presence(meta, users, nodes, room, now_ms, known_rev, carry)
if ARGV[8] == 'jump' and not jumped then
  jump(meta, carry, presence, room, now_ms, known_rev)
end
local scanned = redis.call('HSCAN', users, ARGV[6], 'COUNT', count)
local reply = {
  room.epoch .. '.' .. text(presence.rev),
  text(math.max(0, now_ms - presence.since)),
  dead_node(nodes, now_ms, node) and '1' or '0',
  scanned[1],
}
for index = 1, #scanned[2], 2 do
  local at, info = nodes_and_info(scanned[2][index + 1])
  if at then
    reply[#reply + 1] = scanned[2][index]
    reply[#reply + 1] = has_node(at, node) and '1' or '0'
    reply[#reply + 1] = info
  end
end
return reply
