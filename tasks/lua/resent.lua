#!lua flags=allow-oom
-- A waiting job's message was sent anew: it stands at the end of its queue now.
-- keys: job, ready, queue
-- args: 1 job id
-- reply: 1, or 0 when the job does not wait any more
local id, now = ARGV[1], clock_ms()
local r = redis.call('HMGET', K.job .. id, 'state', 'queue')
if r[1] ~= 'queued' then return 0 end
redis.call('ZADD', K.ready, now, id)
redis.call('ZADD', K.queue .. r[2], now, id)
redis.call('HSET', K.job .. id, 'order', string.format('%.4f', now))
return 1
