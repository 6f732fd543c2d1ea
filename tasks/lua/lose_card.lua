#!lua flags=allow-oom
-- The card was lost under a job we still own: back to the queue without a strike, after its last events, unless
-- that has happened too often.
-- keys: job, journal, leases, ready, queue, and what ending a job touches
-- args: 1 job id, 2 epoch, 3 attempt, 4 how often at most, 5 journal ttl ms, 6 number of the first pending event,
--       7.. these
-- reply: 'queued' | 'cancelled' (somebody had asked for it) | 'spent' (still ours: too often) | 'lost'
local id, now = ARGV[1], clock_ms()
if not owns(id, ARGV[2], ARGV[3]) then return 'lost' end
if redis.call('HINCRBY', K.job .. id, 'card_losses', 1) > tonumber(ARGV[4]) then return 'spent' end
write(id, tonumber(ARGV[6]), 7, #ARGV)
local cancel = redis.call('HGET', K.job .. id, 'cancel')
if cancel then
  end_cancelled(id, cancel, now, ARGV[5])
  return 'cancelled'
end
give_back(id, 'card_lost', now)
return 'queued'
