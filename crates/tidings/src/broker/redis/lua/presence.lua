-- Changes of a room's users at one node, carried in one message where they change who is in the room.
--
-- KEYS: meta, log, ids:0, ids:1, users, nodes
-- ARGV: fresh epoch, lineage mode, PUBLISH or SPUBLISH, node, the revision that it has seen, for how many ms it counts
--       as alive (0: it has nobody there any more), 1 if it wants to be told what its call has changed, then for each user: `e` entered, `u` shows something else, `l` left;
--       user; info (of `e`: if he is nowhere yet)
-- Reply: EPOCH.REV, whether it has jumped (then nothing was changed: read first), whether some node is dead, how many
--       users there were before, and what has changed, as it is carried but with what those have shown who left
--
-- Said again it changes nothing more: a node whose call had no answer reads what became of it.

local meta, users, nodes = KEYS[1], KEYS[5], KEYS[6]
local carry, node, known_rev, lease_ms = ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local observes = ARGV[7] == '1'
local FIRST = 8
if #KEYS ~= 6 or (#ARGV - FIRST + 1) % 3 ~= 0 or #node ~= 16 or not (known_rev and lease_ms) then
  return redis.error_reply('ERR presence: wrong keys or arguments')
end
local lineage, refusal = lineage_here(ARGV[2])
if refusal then
  return refusal
end
local now_ms = now_in_ms()
local room = open(meta, KEYS[2], KEYS[3], KEYS[4], lineage, ARGV[1], 0)
local presence, jumped = open_presence(meta, users, nodes, room, now_ms, known_rev, carry)
if jumped then
  return { room.epoch .. '.' .. text(presence.rev), '1', '0', '0', '' }
end
local before = presence.rev
local records, observed = {}, {}
for first = FIRST, #ARGV, 3 do
  local kind, user, info = ARGV[first], ARGV[first + 1], ARGV[first + 2]
  local value = redis.call('HGET', users, user)
  local at, shown
  if value then
    at, shown = nodes_and_info(value)
  end
  if kind == 'l' then
    local left = at and without_node(at, node)
    if left == '' then
      redis.call('HDEL', users, user)
      records[#records + 1] = record('l', user, '')
      observed[#records] = observes and record('l', user, shown)
    elseif left then
      redis.call('HSET', users, user, left .. ' ' .. shown)
    end
  elseif not at then
    redis.call('HSET', users, user, node .. ' ' .. info)
    records[#records + 1] = record('j', user, info)
  else
    if not has_node(at, node) then
      at = at .. node
    end
    if kind == 'u' then
      shown = info
      records[#records + 1] = record('u', user, info)
    end
    redis.call('HSET', users, user, at .. ' ' .. shown)
  end
end
if lease_ms > 0 then
  redis.call('ZADD', nodes, text(now_ms + lease_ms), node)
else
  redis.call('ZREM', nodes, node)
end
redis.call('EXPIRE', nodes, PRESENCE_TTL_S)
redis.call('EXPIRE', users, PRESENCE_TTL_S)
save_presence(meta, users, carry, room, presence, records)
local told = ''
if observes then
  for index, one in ipairs(records) do
    observed[index] = observed[index] or one
  end
  told = message_of(room.epoch, before, observed)
end
return {
  room.epoch .. '.' .. text(presence.rev), '0', dead_node(nodes, now_ms, node) and '1' or '0', text(presence.count), told
}
