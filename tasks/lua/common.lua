-- Put before every script, after the tables K (keys) and E (events). Local functions only.

-- Redis' own wall clock in milliseconds with a fraction: the one clock that all hosts share.
local function clock_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + t[2] / 1000
end

local function whole(ms)
  return string.format('%.0f', math.floor(ms))
end

local function append(id, event)
  return redis.call('XADD', K.journal .. id, '*', 'e', event)
end

local function queued_again(attempt, reason)
  return '{"attempt":' .. attempt .. ',"reason":"' .. reason .. '","type":"queued"}'
end

-- True when the token (epoch, attempt) still owns the running job.
local function owns(id, epoch, attempt)
  local r = redis.call('HMGET', K.job .. id, 'state', 'epoch', 'attempt')
  return r[1] == 'running' and r[2] == epoch and r[3] == attempt
end

-- Writes those of ARGV[from..to] that were not written yet. `first` numbers ARGV[from] within the attempt: a
-- call repeated after a lost reply, even with more events, writes each of them once.
local function write(id, first, from, to)
  if to < from then return end
  local job = K.job .. id
  local written = tonumber(redis.call('HGET', job, 'written') or 0)
  for i = from, to do
    local number = first + i - from
    if number > written then
      append(id, ARGV[i])
      written = number
    end
  end
  redis.call('HSET', job, 'written', written)
end

-- What a job that succeeded teaches: how long one of its queue takes, and how good what it was told had been.
local function learn(job, queue, run_ms, now)
  local r = redis.call('HMGET', job, 'timings', 'rested_ms', 'eta_told')
  local timings = r[1] and cjson.decode(r[1]) or {}
  -- A picture's file is made while the next one is drawn.
  local beside_ms = (timings.load_ms or 0) + (timings.file_ms or 0) + tonumber(r[2] or 0)
  local work_ms = math.max(0, run_ms - beside_ms)
  local mean = tonumber(redis.call('HGET', K.rates, queue) or work_ms)
  redis.call('HSET', K.rates, queue, whole(0.8 * mean + 0.2 * work_ms))
  if r[3] then
    local told_at, ends_at = string.match(r[3], '^(%S+) (%S+)$')
    local off = math.abs(tonumber(ends_at) - now) / math.max(1000, now - tonumber(told_at))
    redis.call('LPUSH', K.eta_errors, string.format('%.4f', off))
    redis.call('LTRIM', K.eta_errors, 0, 199)
  end
end

-- Notes what a job has taken of its owner's tokens of this minute.
local function charge(id, tokens, now)
  if tokens == 0 then return end
  local spent = K.spent .. redis.call('HGET', K.job .. id, 'owner')
  redis.call('LPUSH', spent, whole(now) .. ' ' .. whole(tokens))
  while now - tonumber(string.match(redis.call('LINDEX', spent, -1), '^%d+')) >= 60000 do
    redis.call('RPOP', spent)
  end
  redis.call('EXPIRE', spent, 60)
end

-- One more record refers to a file.
local function refer(path)
  redis.call('HINCRBY', K.files, path, 1)
end

-- The files that a job's record refers to: its input pictures and what it made.
local function files_of(id)
  local r = redis.call('HMGET', K.job .. id, 'inputs', 'output')
  local paths = {}
  for path in string.gmatch(r[1] or '', '%S+') do paths[#paths + 1] = path end
  for _, ref in ipairs(r[2] and cjson.decode(r[2]) or {}) do paths[#paths + 1] = ref.path end
  return paths
end

-- Wakes who delivers: the outbox has something new, or something is due at another time.
local function ring()
  redis.call('XADD', K.posted, 'MAXLEN', 16, '*', 'p', '')
end

local function one_of(list, wanted)
  for _, each in ipairs(list) do
    if each == wanted then return true end
  end
  return false
end

-- Puts an event into the outbox, one delivery for each of the addresses `urls` and for each endpoint that the owner
-- has registered for such events. `data` is JSON. In the same script as what the event tells of, so that none is lost.
-- Returns the ids of the deliveries.
local function announce(owner, kind, subject, data, now, urls)
  local event, body, letters
  local function post(suffix, field, value)
    if not event then
      event = 'evt_' .. redis.sha1hex(subject .. ' ' .. kind .. ' ' .. string.format('%.4f', now))
      body = '{"id":"' .. event .. '","object":"event","created_at":' .. whole(now / 1000) .. ',"type":"' .. kind ..
        '","data":' .. data .. '}'
      letters = {}
    end
    local id = event .. '.' .. suffix
    redis.call('HSET', K.delivery .. id, 'event', event, 'type', kind, 'body', body, 'owner', owner, field, value,
      'state', 'pending', 'attempts', 0, 'created_at', whole(now), 'next_at', whole(now))
    redis.call('ZADD', K.outbox, whole(now), id)
    letters[#letters + 1] = id
  end
  for number, url in ipairs(urls) do post(number, 'url', url) end
  local registered = redis.call('HGETALL', K.endpoints .. owner)
  for i = 1, #registered, 2 do
    local id = registered[i]
    if redis.call('HEXISTS', K.gone_endpoints, id) == 0 and one_of(cjson.decode(registered[i + 1]).events, kind) then
      post(id, 'endpoint', id)
    end
  end
  if letters then ring() end
  return letters or {}
end

-- Tells the end of a job, and of its batch with the last one of it, to who wanted to know.
local RESPONSE = {succeeded = 'completed', failed = 'failed', expired = 'failed', cancelled = 'cancelled'}
local function announce_end(id, state, owner, batch, now)
  local raw = redis.call('HGET', K.job .. id, 'announced')
  if not raw then return end
  local told = cjson.decode(raw)
  local subject, kind, data = id, 'job.' .. state, nil
  if told.topic == 'response' then
    subject = 'resp_' .. string.sub(id, 5)
    kind = 'response.' .. RESPONSE[state]
    if state == 'succeeded' and redis.call('HGET', K.job .. id, 'finish_reason') == 'length' then
      kind = 'response.incomplete'
    end
    data = '{"id":"' .. subject .. '"}'
  else
    data = '{"id":"' .. id .. '","object":"job","state":"' .. state .. '","url":"/v1/jobs/' .. id .. '"}'
  end
  local urls = told.url and one_of(told.events, kind) and {told.url} or {}
  local letters = announce(owner, kind, subject, data, now, urls)
  if #letters > 0 then redis.call('HSET', K.job .. id, 'letters', table.concat(letters, ' ')) end

  if batch == '' or redis.call('HEXISTS', K.alive, batch) == 0 then return end
  if redis.call('HINCRBY', K.alive, batch, -1) > 0 then return end
  redis.call('HDEL', K.alive, batch)
  data = '{"id":"' .. batch .. '","object":"batch","url":"/v1/jobs/batches/' .. batch .. '"}'
  urls = redis.call('SMEMBERS', K.batch_hooks .. batch)
  for _, letter in ipairs(announce(owner, 'job_batch.ended', batch, data, now, urls)) do
    redis.call('RPUSH', K.batch_letters .. batch, letter)
  end
end

-- Takes back what has not been delivered yet, and forgets what became of the rest.
local function burn(letters)
  for _, id in ipairs(letters) do
    redis.call('DEL', K.delivery .. id)
    redis.call('ZREM', K.outbox, id)
  end
end

-- Ends a job that has not ended: one terminal event, the record, every index. False when it had ended before.
local function end_job(id, state, event, now, journal_ttl_ms)
  local job = K.job .. id
  local r = redis.call('HMGET', job, 'state', 'class', 'queue', 'claimed_at', 'ready_at', 'owner', 'kind', 'has_reader',
    'batch')
  if r[1] ~= 'queued' and r[1] ~= 'running' then return false end
  append(id, event)
  redis.call('PEXPIRE', K.journal .. id, journal_ttl_ms)
  redis.call('ZREM', K.ready, id)
  redis.call('ZREM', K.queue .. r[3], id)
  redis.call('ZREM', K.leases, id)
  redis.call('ZREM', K.deadlines, id)
  redis.call('SREM', K.watched, id)
  redis.call('HINCRBY', K.counts, r[2], -1)
  if redis.call('HINCRBY', K.owned, r[6], -1) <= 0 then redis.call('HDEL', K.owned, r[6]) end
  redis.call('ZADD', K.ended, now, id)
  if r[7] == 'embed' and r[8] == '1' then redis.call('ZADD', K.brief, now, id) end
  if #files_of(id) > 0 then redis.call('ZADD', K.filed, now, id) end
  redis.call('DEL', K.reader .. id)
  if r[1] == 'running' then
    local run_ms = math.max(0, math.floor(now - tonumber(r[4])))
    redis.call('HINCRBY', job, 'run_ms', run_ms)
    if state == 'succeeded' and redis.call('HGET', job, 'kind') ~= 'model' then learn(job, r[3], run_ms, now) end
  else
    redis.call('HINCRBY', job, 'queued_ms', math.max(0, math.floor(now - tonumber(r[5]))))
  end
  redis.call('HDEL', job, 'claimed_at', 'epoch', 'nonce', 'written', 'cancel', 'reader_gone_at', 'rested_ms',
    'eta_told', 'excused')
  redis.call('HSET', job, 'state', state, 'ended_at', whole(now))
  announce_end(id, state, r[6], r[9], now)
  return true
end

-- Puts into the record what earlier attempts have said: the journal does not last.
local function keep_words(id)
  local job = K.job .. id
  if redis.call('HGET', job, 'attempt') == '0' then return end
  local text, thoughts, calls = {}, {}, {}
  for _, entry in ipairs(redis.call('XRANGE', K.journal .. id, '-', '+')) do
    local event = cjson.decode(entry[2][2])
    if event.type == 'text_delta' then
      text[#text + 1] = event.text
    elseif event.type == 'reasoning_delta' then
      thoughts[#thoughts + 1] = event.text
    elseif event.type == 'tool_call' then
      calls[#calls + 1] = {id = event.id, name = event.name, arguments = event.arguments}
    end
  end
  for name, parts in pairs({text = text, reasoning = thoughts}) do
    local all = table.concat(parts)
    if all ~= '' then redis.call('HSET', job, name, all) end
  end
  if #calls > 0 then redis.call('HSET', job, 'calls', cjson.encode(calls)) end
end

-- Ends a job that no process speaks for. `event` is its last one, encoded.
local function end_unspoken(id, state, event, now, journal_ttl_ms)
  keep_words(id)
  end_job(id, state, event, now, journal_ttl_ms)
end

-- Ends a job as cancelled, by nobody's process. `reason` is a name in E.
local function end_cancelled(id, reason, now, journal_ttl_ms)
  redis.call('HSET', K.job .. id, 'cancelled_because', reason)
  end_unspoken(id, 'cancelled', E[reason], now, journal_ttl_ms)
end

-- Puts a running job back in the queue, at its old place.
local function give_back(id, reason, now)
  local job = K.job .. id
  local r = redis.call('HMGET', job, 'attempt', 'queue', 'claimed_at', 'order')
  redis.call('HINCRBY', job, 'run_ms', math.max(0, math.floor(now - tonumber(r[3]))))
  redis.call('HDEL', job, 'claimed_at', 'epoch', 'nonce', 'written', 'card', 'progress')
  redis.call('HSET', job, 'state', 'queued', 'ready_at', whole(now))
  redis.call('ZREM', K.leases, id)
  redis.call('ZADD', K.ready, now, id)
  redis.call('ZADD', K.queue .. r[2], r[4], id)
  append(id, queued_again(r[1], reason))
end

-- The last event of a job whose strikes have run out.
local function worker_lost(last_words)
  if last_words == '' then return E.worker_lost end
  local event = cjson.decode(E.worker_lost)
  event.message = event.message .. '; the last time it ' .. last_words
  return cjson.encode(event)
end

-- What becomes of a running job whose process died under it: a strike, then the end or the queue.
-- `last_words`: what is known of how it died, or ''. Returns 'cancelled', 'failed' or 'queued'.
local function bereave(id, now, max_strikes, journal_ttl_ms, last_words)
  -- A process that was ended because its card was gone has not died of the job.
  local blame = redis.call('HDEL', K.job .. id, 'excused') == 1 and 0 or 1
  local strikes = redis.call('HINCRBY', K.job .. id, 'strikes', blame)
  local cancel = redis.call('HGET', K.job .. id, 'cancel')
  if cancel then
    end_cancelled(id, cancel, now, journal_ttl_ms)
    return 'cancelled'
  end
  if blame == 1 and strikes >= max_strikes then
    local fault = worker_lost(last_words)
    redis.call('HSET', K.job .. id, 'error', fault)
    end_unspoken(id, 'failed', fault, now, journal_ttl_ms)
    return 'failed'
  end
  give_back(id, 'worker_lost', now)
  return 'queued'
end

-- Nobody has read the job for longer than the grace. Notes since when, so it needs to be asked repeatedly.
local function deserted(id, now, grace_ms)
  local job = K.job .. id
  if redis.call('HGET', job, 'has_reader') ~= '1' then return false end
  if redis.call('EXISTS', K.reader .. id) == 1 then
    redis.call('HDEL', job, 'reader_gone_at')
    return false
  end
  local since = redis.call('HGET', job, 'reader_gone_at')
  if not since then
    redis.call('HSET', job, 'reader_gone_at', whole(now))
    return false
  end
  return now - tonumber(since) >= grace_ms
end

-- Notes a file of /v1/files, whose bytes are on the disk.
local function keep_document(id, owner, name, purpose, size, now, keep_ms)
  redis.call('HSET', K.document .. id, 'owner', owner, 'name', name, 'purpose', purpose, 'size', size,
    'created_at', whole(now), 'expires_at', whole(now + keep_ms), 'uses', 0)
  redis.call('ZADD', K.documents, whole(now + keep_ms), id)
  redis.call('ZADD', K.documents_of .. owner, string.format('%.4f', now), id)
  redis.call('INCRBY', K.document_bytes, size)
end
