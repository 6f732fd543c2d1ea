#!lua flags=allow-oom
-- Cancels a queued job at once; marks a running one; leaves an ended one.
-- keys: job, and what ending a job touches
-- args: 1 job id, 2 reason (a name in E), 3 journal ttl ms
-- reply: the state the job is in now, or false when there is no such job
local id = ARGV[1]
local state = redis.call('HGET', K.job .. id, 'state')
if state == 'queued' then
  end_cancelled(id, ARGV[2], clock_ms(), ARGV[3])
  return 'cancelled'
end
if state == 'running' then redis.call('HSETNX', K.job .. id, 'cancel', ARGV[2]) end
return state
