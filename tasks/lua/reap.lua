#!lua flags=allow-oom
-- What time has undone, judged by who knows that the clock is steady: expired leases, passed deadlines of waiting
-- jobs, waiting jobs that nobody reads any more.
-- keys: clock, leases, deadlines, watched, and what giving back or ending a job touches
-- args: 1 max strikes, 2 journal ttl ms, 3 reader grace ms, 4 how many of each kind at most
-- reply: {outcome, id, outcome, id, ...}; outcomes: queued, failed, cancelled (of a lost worker), expired, deserted
local now, ttl, limit = clock_ms(), ARGV[2], ARGV[4]
local outcomes = {}
local function tell(outcome, id)
  outcomes[#outcomes + 1] = outcome
  outcomes[#outcomes + 1] = id
end

redis.call('SET', K.clock, whole(now))
for _, id in ipairs(redis.call('ZRANGEBYSCORE', K.leases, '-inf', now, 'LIMIT', 0, limit)) do
  tell(bereave(id, now, tonumber(ARGV[1]), ttl, 'no longer renewed its lease'), id)
end
-- A running job's deadline is watched by its process, by a clock that does not jump.
for _, id in ipairs(redis.call('ZRANGEBYSCORE', K.deadlines, '-inf', now, 'LIMIT', 0, limit)) do
  if redis.call('HGET', K.job .. id, 'state') == 'queued' then
    end_unspoken(id, 'expired', E.expired, now, ttl)
    tell('expired', id)
  end
end
for _, id in ipairs(redis.call('SMEMBERS', K.watched)) do
  if redis.call('HGET', K.job .. id, 'state') == 'queued' and deserted(id, now, tonumber(ARGV[3])) then
    end_cancelled(id, 'no_reader', now, ttl)
    tell('deserted', id)
  end
end
return outcomes
