-- The server's time in ms, by which leases end and orders are dated: nodes' clocks may differ.
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
