#!lua flags=allow-oom
-- The running job's question: is it still ours, is it wanted, may the card work? Renews the lease.
-- keys: job, leases, reader, the card's hold and ease
-- args: 1 job id, 2 epoch, 3 attempt, 4 lease ms, 5 renew 0|1, 6 reader grace ms, 7 the hold's key, 8 the ease's
-- reply: {0} when the job is no longer ours, else {1, reason to cancel or '', hold JSON or '', ease JSON or ''}
local id, now = ARGV[1], clock_ms()
if not owns(id, ARGV[2], ARGV[3]) then return {0} end
if ARGV[5] == '1' then redis.call('ZADD', K.leases, 'XX', now + tonumber(ARGV[4]), id) end
if deserted(id, now, tonumber(ARGV[6])) then redis.call('HSETNX', K.job .. id, 'cancel', 'no_reader') end
return {
  1,
  redis.call('HGET', K.job .. id, 'cancel') or '',
  redis.call('GET', ARGV[7]) or '',
  redis.call('GET', ARGV[8]) or '',
}
