#!lua
-- Begins a batch of /v1/batches; its file is needed from now on. Refused when Redis is out of memory, as new work is.
-- keys: bulk, bulks, bulks_of, document
-- args: 1 id, 2 owner, 3 id of the file, 4 purpose it must have, 5 JSON of what was asked for,
--       6 ms until it expires, 7 most batches of one owner that have not ended
-- reply: {'opened'} | {'no_file'} | {'purpose', what it is} | {'many'}
local now = clock_ms()
local id, owner, file = ARGV[1], ARGV[2], K.document .. ARGV[3]
if redis.call('EXISTS', K.bulk .. id) == 1 then return {'opened'} end
local r = redis.call('HMGET', file, 'owner', 'purpose', 'expires_at')
if r[1] ~= owner or tonumber(r[3]) <= now then return {'no_file'} end
if r[2] ~= ARGV[4] then return {'purpose', r[2]} end
local count = 0
for _, each in ipairs(redis.call('ZRANGE', K.bulks, 0, -1)) do
  if redis.call('HGET', K.bulk .. each, 'owner') == owner then count = count + 1 end
end
if count >= tonumber(ARGV[7]) then return {'many'} end
redis.call('HINCRBY', file, 'uses', 1)
redis.call('HSET', K.bulk .. id, 'state', 'validating', 'owner', owner, 'input', ARGV[3], 'asked', ARGV[5],
  'created_at', whole(now), 'expires_at', whole(now + tonumber(ARGV[6])))
redis.call('ZADD', K.bulks, whole(now), id)
redis.call('ZADD', K.bulks_of .. owner, string.format('%.4f', now), id)
return {'opened'}
