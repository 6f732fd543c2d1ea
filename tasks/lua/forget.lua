#!lua flags=allow-oom
-- Removes an ended job: record, journal, every index.
-- keys: job, journal, jobs, ended, owner, batch
-- args: 1 job id
-- reply: 1, or 0 when the job is unknown or has not ended
local id = ARGV[1]
local r = redis.call('HMGET', K.job .. id, 'state', 'owner', 'batch')
if not r[1] then
  redis.call('ZREM', K.ended, id)
  return 0
end
if r[1] == 'queued' or r[1] == 'running' then return 0 end
redis.call('DEL', K.job .. id, K.journal .. id)
redis.call('ZREM', K.jobs, id)
redis.call('ZREM', K.ended, id)
redis.call('ZREM', K.owner .. r[2], id)
if r[3] ~= '' then redis.call('ZREM', K.batch .. r[3], id) end
return 1
