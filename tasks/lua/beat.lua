#!lua flags=allow-oom
-- The running job's question: is it still ours, is it wanted, may the card work? Renews the lease.
-- keys: job, leases, reader, pauses, the card's hold and ease
-- args: 1 job id, 2 epoch, 3 attempt, 4 lease ms, 5 renew 0|1, 6 reader grace ms, 7 the hold's key, 8 the ease's
-- reply: {0} when the job is no longer ours, else {1, reason to cancel or '', hold JSON or '', ease JSON or ''}
local id, now = ARGV[1], clock_ms()
if not owns(id, ARGV[2], ARGV[3]) then return {0} end
if ARGV[5] == '1' then redis.call('ZADD', K.leases, 'XX', now + tonumber(ARGV[4]), id) end
if deserted(id, now, tonumber(ARGV[6])) then redis.call('HSETNX', K.job .. id, 'cancel', 'no_reader') end

-- An operator's pause reaches a running job only if it was told to.
local function told_to_rest()
  if redis.call('EXISTS', K.pauses) == 0 then return '' end
  local r = redis.call('HMGET', K.job .. id, 'class', 'model', 'queue')
  for _, raw in ipairs(redis.call('HMGET', K.pauses, '*.*', r[1] .. '.*', '*.' .. r[2], r[3])) do
    local pause = raw and cjson.decode(raw)
    if pause and pause.rests then
      return cjson.encode({reason = 'operator', message = pause.message, since_ms = pause.since_ms})
    end
  end
  return ''
end

return {
  1,
  redis.call('HGET', K.job .. id, 'cancel') or '',
  redis.call('GET', ARGV[7]) or told_to_rest(),
  redis.call('GET', ARGV[8]) or '',
}
