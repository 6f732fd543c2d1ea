#!lua flags=allow-oom
-- Removes an ended job: record, journal, every index, its references to files. One whose batch is still to be
-- made into a file stays, and is looked at again when all others had their turn.
-- keys: job, journal, jobs, ended, brief, filed, files, owner, batch, bulk, bulks, delivery, outbox, batch_hooks,
--       batch_letters
-- args: 1 job id
-- reply: {1, path...} with the files that no record refers to any more, or {0} when the job is unknown, has not
--        ended, or stays
local id = ARGV[1]
local r = redis.call('HMGET', K.job .. id, 'state', 'owner', 'batch', 'letters')
if not r[1] then
  redis.call('ZREM', K.ended, id)
  redis.call('ZREM', K.brief, id)
  redis.call('ZREM', K.filed, id)
  return {0}
end
if r[1] == 'queued' or r[1] == 'running' then return {0} end
if r[3] ~= '' and redis.call('ZSCORE', K.bulks, r[3]) then
  local now = clock_ms()
  redis.call('ZADD', K.ended, now, id)
  redis.call('ZADD', K.filed, 'XX', now, id)
  return {0}
end
local reply = {1}
for _, path in ipairs(files_of(id)) do
  if redis.call('HINCRBY', K.files, path, -1) <= 0 then
    redis.call('HDEL', K.files, path)
    reply[#reply + 1] = path
  end
end
local letters = {}
for letter in string.gmatch(r[4] or '', '%S+') do letters[#letters + 1] = letter end
burn(letters)
redis.call('DEL', K.job .. id, K.journal .. id)
redis.call('ZREM', K.jobs, id)
redis.call('ZREM', K.ended, id)
redis.call('ZREM', K.brief, id)
redis.call('ZREM', K.filed, id)
redis.call('ZREM', K.owner .. r[2], id)
if r[3] ~= '' then
  redis.call('ZREM', K.batch .. r[3], id)
  if redis.call('EXISTS', K.batch .. r[3]) == 0 then
    burn(redis.call('LRANGE', K.batch_letters .. r[3], 0, -1))
    redis.call('DEL', K.batch_letters .. r[3], K.batch_hooks .. r[3])
  end
end
return reply
