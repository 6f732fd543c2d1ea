#!lua flags=allow-oom
-- Takes deliveries that are due, for one attempt each: until the lease ends nobody else gets them.
-- keys: outbox, delivery
-- args: 1 how many at most, 2 lease ms
-- reply: for each one {id, attempt, event, type, body, owner, endpoint or '', address or '', age ms}
local now, letters = clock_ms(), {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', K.outbox, '-inf', now, 'LIMIT', 0, ARGV[1])) do
  local r = redis.call('HMGET', K.delivery .. id, 'event', 'type', 'body', 'owner', 'endpoint', 'url', 'created_at')
  if r[3] then
    redis.call('ZADD', K.outbox, now + tonumber(ARGV[2]), id)
    local attempt = redis.call('HINCRBY', K.delivery .. id, 'attempts', 1)
    letters[#letters + 1] = {id, attempt, r[1], r[2], r[3], r[4], r[5] or '', r[6] or '', math.floor(now - tonumber(r[7]))}
  else
    redis.call('ZREM', K.outbox, id)
  end
end
return letters
