#!lua flags=allow-oom
-- Notes what became of one attempt at a delivery, unless another one has begun meanwhile.
-- keys: outbox, delivery, posted, gone_endpoints
-- args: 1 delivery id, 2 number of the attempt, 3 state ('pending': once more), 4 HTTP status or '', 5 error or '',
--       6 ms until the next attempt, 7 how long a settled delivery is kept, ms, 8 the endpoint that is gone or ''
-- reply: 1, or 0 when the attempt counts no more
local id, now = ARGV[1], clock_ms()
local delivery = K.delivery .. id
if redis.call('HGET', delivery, 'attempts') ~= ARGV[2] then return 0 end
redis.call('HSET', delivery, 'state', ARGV[3], 'status', ARGV[4], 'error', ARGV[5], 'tried_at', whole(now))
if ARGV[8] ~= '' then redis.call('HSETNX', K.gone_endpoints, ARGV[8], whole(now)) end
if ARGV[3] == 'pending' then
  local next_at = now + tonumber(ARGV[6])
  redis.call('HSET', delivery, 'next_at', whole(next_at))
  redis.call('ZADD', K.outbox, whole(next_at), id)
  ring()
else
  redis.call('ZREM', K.outbox, id)
  redis.call('HDEL', delivery, 'next_at', 'body')
  redis.call('PEXPIRE', delivery, ARGV[7])
end
return 1
