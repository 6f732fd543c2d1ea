#!lua flags=allow-oom
-- Cancels some of a batch's jobs: those that wait at once, those that run at their next step.
-- keys: batch, job, and what ending a job touches
-- args: 1 batch id, 2 reason (a name in E), 3 journal ttl ms, 4 first, 5 last of them by rank
-- reply: how many were looked at
local now = clock_ms()
local ids = redis.call('ZRANGE', K.batch .. ARGV[1], ARGV[4], ARGV[5])
for _, id in ipairs(ids) do
  local state = redis.call('HGET', K.job .. id, 'state')
  if state == 'queued' then
    end_cancelled(id, ARGV[2], now, ARGV[3])
  elseif state == 'running' then
    redis.call('HSETNX', K.job .. id, 'cancel', ARGV[2])
  end
end
return #ids
