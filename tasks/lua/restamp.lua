#!lua flags=allow-oom
-- The wall clock has jumped: every time that is still compared with it moves along, and no lease expires.
-- keys: leases, deadlines, ready, ended, filed, queue, job, bulks, bulk, documents, document, outbox,
--       delivery
-- args: 1 by how many ms the clock jumped, 2 lease ms, 3 and 4 from when until when it was wrong, ms by that clock
-- reply: how many jobs were moved
local delta, now = tonumber(ARGV[1]), clock_ms()

local function shift(id, field, format)
  local at = redis.call('HGET', K.job .. id, field)
  if at then redis.call('HSET', K.job .. id, field, string.format(format, tonumber(at) + delta)) end
end

local running = redis.call('ZRANGE', K.leases, 0, -1)
for _, id in ipairs(running) do
  redis.call('ZADD', K.leases, now + tonumber(ARGV[2]), id)
  shift(id, 'claimed_at', '%.0f')
  shift(id, 'order', '%.4f')
end
local waiting = redis.call('ZRANGE', K.ready, 0, -1)
for _, id in ipairs(waiting) do
  local queue = K.queue .. redis.call('HGET', K.job .. id, 'queue')
  redis.call('ZINCRBY', K.ready, delta, id)
  redis.call('ZINCRBY', queue, delta, id)
  shift(id, 'ready_at', '%.0f')
  shift(id, 'order', '%.4f')
end
for _, id in ipairs(redis.call('ZRANGE', K.deadlines, 0, -1)) do
  redis.call('ZINCRBY', K.deadlines, delta, id)
  shift(id, 'deadline_at', '%.0f')
end
-- A job that ended by the wrong clock would be retired too early, or too late.
for _, id in ipairs(redis.call('ZRANGEBYSCORE', K.ended, ARGV[3], ARGV[4])) do
  redis.call('ZINCRBY', K.ended, delta, id)
  if redis.call('ZSCORE', K.filed, id) then redis.call('ZINCRBY', K.filed, delta, id) end
end
for _, id in ipairs(redis.call('ZRANGE', K.bulks, 0, -1)) do
  redis.call('HINCRBY', K.bulk .. id, 'expires_at', delta)
end
-- So would a file of /v1/files that came by it.
for _, id in ipairs(redis.call('ZRANGE', K.documents, 0, -1)) do
  local created = tonumber(redis.call('HGET', K.document .. id, 'created_at'))
  if created and created >= tonumber(ARGV[3]) and created <= tonumber(ARGV[4]) then
    redis.call('HINCRBY', K.document .. id, 'created_at', delta)
    redis.call('HINCRBY', K.document .. id, 'expires_at', delta)
    redis.call('ZINCRBY', K.documents, delta, id)
  end
end
for _, id in ipairs(redis.call('ZRANGE', K.outbox, 0, -1)) do
  redis.call('ZINCRBY', K.outbox, delta, id)
  for _, field in ipairs({'next_at', 'created_at'}) do
    local at = redis.call('HGET', K.delivery .. id, field)
    if at then redis.call('HSET', K.delivery .. id, field, whole(tonumber(at) + delta)) end
  end
end
return #running + #waiting
