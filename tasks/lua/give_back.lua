#!lua flags=allow-oom
-- Puts a job we still own back in the queue without a strike, after its last events.
-- keys: job, journal, leases, ready, queue, and what ending a job touches
-- args: 1 job id, 2 epoch, 3 attempt, 4 reason, 5 journal ttl ms, 6 number of the first pending event, 7.. these
-- reply: 'queued' | 'cancelled' (somebody had asked for it) | 'lost'
local id, now = ARGV[1], clock_ms()
if not owns(id, ARGV[2], ARGV[3]) then return 'lost' end
write(id, tonumber(ARGV[6]), 7, #ARGV)
local cancel = redis.call('HGET', K.job .. id, 'cancel')
if cancel then
  end_cancelled(id, cancel, now, ARGV[5])
  return 'cancelled'
end
give_back(id, ARGV[4], now)
return 'queued'
