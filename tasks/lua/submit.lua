#!lua
-- Accepts jobs, all or none: idempotency, admission, records, indexes, the first Queued.
-- Not run at all when Redis is out of memory (no allow-oom): new work is what is refused first.
-- A batch of /v1/batches, whose jobs these are, is in progress with them: it can be given its jobs once.
-- keys: files, idempotency, counts, owned, rates, jobs, ready, queues, deadlines, watched, owner, batch, bulk, queue, job,
--       journal, reader, alive, batch_hooks
-- args: 1 idempotency key or '', 2 its body hash, 3 its ttl ms, 4 JSON class -> cap ('owner': of one key),
--       5 reader ttl ms, 6 number of jobs, all of one owner, then 13 per job:
--       id, record JSON, owner, class, queue, model, kind, batch or '', deadline ms or '', has_reader 0|1,
--       id of the job it retries or '', paths of its input pictures with spaces between,
--       what its end is announced as or '' (JSON: topic, url, events)
-- reply: {'accepted'} | {'replayed', id...} | {'conflict'} | {'full'} | {'retried'} | {'closed'}
--        | {'busy', class or 'owner', how many jobs over its cap, mean run ms in that queue}
local PER_JOB, FIRST = 13, 7
local now = clock_ms()
local idempotency, n = ARGV[1], tonumber(ARGV[6])

-- A repeated call whose first reply was lost: the ids are random, so these are our own jobs.
if redis.call('EXISTS', K.job .. ARGV[FIRST]) == 1 then return {'accepted'} end

if idempotency ~= '' then
  local known = redis.call('GET', idempotency)
  if known then
    known = cjson.decode(known)
    if known.body ~= ARGV[2] then return {'conflict'} end
    return {'replayed', unpack(known.jobs)}
  end
end

local bulk = K.bulk .. ARGV[FIRST + 7]
local is_bulk = ARGV[FIRST + 7] ~= '' and redis.call('EXISTS', bulk) == 1
if is_bulk and redis.call('HGET', bulk, 'state') ~= 'validating' then return {'closed'} end

-- A job is retried once; whoever comes second has to look again.
for i = 0, n - 1 do
  local retried = ARGV[FIRST + i * PER_JOB + 10]
  if retried ~= '' and redis.call('HEXISTS', K.job .. retried, 'retried_as') == 1 then return {'retried'} end
end

-- The last fifth of the memory is for jobs that were accepted: Celery can neither send nor take a message when
-- all is used, so a queue that had filled it would stand still.
local memory = redis.pcall('INFO', 'memory')
if type(memory) == 'string' then
  local used, most = string.match(memory, 'used_memory:(%d+)'), string.match(memory, 'maxmemory:(%d+)')
  if tonumber(most or 0) > 0 and tonumber(used) > 0.8 * tonumber(most) then return {'full'} end
end

local wanted, queue_of = {}, {}
for i = 0, n - 1 do
  local class = ARGV[FIRST + i * PER_JOB + 3]
  wanted[class] = (wanted[class] or 0) + 1
  queue_of[class] = ARGV[FIRST + i * PER_JOB + 4]
end
local caps = cjson.decode(ARGV[4])
for class, more in pairs(wanted) do
  local over = tonumber(redis.call('HGET', K.counts, class) or 0) + more - caps[class]
  if over > 0 then
    return {'busy', class, over, redis.call('HGET', K.rates, queue_of[class]) or '0'}
  end
end

if caps.owner then
  local over = tonumber(redis.call('HGET', K.owned, ARGV[FIRST + 2]) or 0) + n - caps.owner
  if over > 0 then
    return {'busy', 'owner', over, redis.call('HGET', K.rates, ARGV[FIRST + 4]) or '0'}
  end
end

local ids = {}
for i = 0, n - 1 do
  local at = FIRST + i * PER_JOB
  local id, owner, class, queue = ARGV[at], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local batch, deadline, has_reader, retried = ARGV[at + 7], ARGV[at + 8], ARGV[at + 9], ARGV[at + 10]
  -- One request's jobs keep their order: doubles of this size resolve 1/4096 ms.
  local order = now + i / 1024
  ids[i + 1] = id
  redis.call('HSET', K.job .. id, 'job', ARGV[at + 1], 'state', 'queued', 'class', class, 'owner', owner,
    'queue', queue, 'model', ARGV[at + 5], 'kind', ARGV[at + 6], 'batch', batch, 'has_reader', has_reader,
    'attempt', 0, 'strikes', 0, 'queued_ms', 0, 'run_ms', 0, 'order', string.format('%.4f', order),
    'ready_at', whole(now))
  -- From now on its input pictures are not to vanish while it waits.
  local inputs = ARGV[at + 11]
  if inputs ~= '' then
    redis.call('HSET', K.job .. id, 'inputs', inputs)
    for path in string.gmatch(inputs, '%S+') do refer(path) end
  end
  local announced = ARGV[at + 12]
  if announced ~= '' then
    redis.call('HSET', K.job .. id, 'announced', announced)
    if batch ~= '' then
      redis.call('HINCRBY', K.alive, batch, 1)
      local told = cjson.decode(announced)
      if told.url and one_of(told.events, 'job_batch.ended') then
        redis.call('SADD', K.batch_hooks .. batch, told.url)
      end
    end
  end
  append(id, E.queued)
  redis.call('ZADD', K.jobs, order, id)
  redis.call('ZADD', K.owner .. owner, order, id)
  if batch ~= '' then redis.call('ZADD', K.batch .. batch, order, id) end
  redis.call('SADD', K.queues, queue)
  redis.call('ZADD', K.queue .. queue, order, id)
  redis.call('ZADD', K.ready, now, id)
  if deadline ~= '' then
    redis.call('HSET', K.job .. id, 'deadline_at', deadline)
    redis.call('ZADD', K.deadlines, deadline, id)
  end
  if has_reader == '1' then
    redis.call('SADD', K.watched, id)
    redis.call('SET', K.reader .. id, '1', 'PX', ARGV[5])
  end
  if retried ~= '' and redis.call('EXISTS', K.job .. retried) == 1 then
    redis.call('HSET', K.job .. retried, 'retried_as', id)
  end
end
if is_bulk then redis.call('HSET', bulk, 'state', 'in_progress', 'in_progress_at', whole(now)) end
for class, more in pairs(wanted) do redis.call('HINCRBY', K.counts, class, more) end
redis.call('HINCRBY', K.owned, ARGV[FIRST + 2], n)
if idempotency ~= '' then
  redis.call('SET', idempotency, cjson.encode({body = ARGV[2], jobs = ids}), 'PX', ARGV[3])
end
return {'accepted'}
