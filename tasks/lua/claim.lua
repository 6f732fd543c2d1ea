#!lua flags=allow-oom
-- Takes a queued job for one process: state, lease, token (epoch, attempt), Started.
-- Only a queued job can be claimed: leases are judged by the reaper alone, who knows whether the clock is steady.
-- keys: job, the card's epoch, leases, ready, queue, clock, journal, reader, and what ending a job touches
-- args: 1 job id, 2 card id, 3 epoch, 4 the epoch's key, 5 lease ms, 6 nonce of this call, 7 reader grace ms,
--       8 journal ttl ms, 9 how old the reaper's word on the clock may be, ms
-- reply: {'claimed', attempt, record JSON, ms left to the deadline or ''} | {'gone'} | {'taken'} | {'ended'}
--        | {'stale'} (the card has a newer owner) | {'forgotten'} (Redis lost what it knew of the owner)
local id, now = ARGV[1], clock_ms()
local job = K.job .. id
local r = redis.call('HMGET', job, 'state', 'attempt', 'job', 'nonce', 'deadline_at', 'queue', 'ready_at')
if not r[1] then return {'gone'} end

-- A deadline is believed only while the clock is known to be steady; without a reaper there is no one to ask.
local left = ''
if r[5] then
  local vouched = redis.call('GET', K.clock)
  if not vouched or math.abs(now - tonumber(vouched)) <= tonumber(ARGV[9]) then
    left = math.floor(tonumber(r[5]) - now)
  end
end
if r[1] == 'running' and r[4] == ARGV[6] then return {'claimed', tonumber(r[2]), r[3], left} end
if r[1] ~= 'queued' then return {'taken'} end
local epoch = tonumber(redis.call('GET', ARGV[4]) or 0)
if epoch > tonumber(ARGV[3]) then return {'stale'} end
if epoch < tonumber(ARGV[3]) then return {'forgotten'} end
if left ~= '' and left <= 0 then
  end_unspoken(id, 'expired', E.expired, now, ARGV[8])
  return {'ended'}
end
if deserted(id, now, tonumber(ARGV[7])) then
  end_cancelled(id, 'no_reader', now, ARGV[8])
  return {'ended'}
end

local attempt = redis.call('HINCRBY', job, 'attempt', 1)
redis.call('HINCRBY', job, 'queued_ms', math.max(0, math.floor(now - tonumber(r[7]))))
redis.call('HSETNX', job, 'started_at', whole(now))
redis.call('HSET', job, 'state', 'running', 'card', ARGV[2], 'epoch', ARGV[3], 'nonce', ARGV[6],
  'claimed_at', whole(now), 'written', 0)
redis.call('ZREM', K.ready, id)
redis.call('ZREM', K.queue .. r[6], id)
redis.call('ZADD', K.leases, now + tonumber(ARGV[5]), id)
append(id, '{"attempt":' .. attempt .. ',"card":' .. cjson.encode(ARGV[2]) .. ',"type":"started"}')
return {'claimed', attempt, r[3], left}
