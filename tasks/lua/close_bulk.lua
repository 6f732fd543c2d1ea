#!lua flags=allow-oom
-- Ends a batch of /v1/batches: its state, its files, what came of it. Every batch comes to its end in this script, once.
-- Its owner's endpoints are told.
-- keys: bulk, bulks, bulks_of, document, documents, documents_of, document_bytes, outbox, delivery, endpoints
-- args: 1 id, 2 the state it must be in, 3 the one it ends in, 4 to be kept for ms, 5 JSON of errors or '',
--       6 JSON of what came of it or '', then 4 for each of its files: 'output' or 'error', name, size, to be kept for ms
-- reply: 1 when this call has ended it, else 0
local now = clock_ms()
local id, state = ARGV[1], ARGV[3]
local bulk = K.bulk .. id
local r = redis.call('HMGET', bulk, 'state', 'owner', 'input', 'output', 'error')
if r[1] ~= ARGV[2] then return 0 end
local names = {output = r[4], error = r[5]}
redis.call('HDEL', bulk, 'output', 'error')
for at = 7, #ARGV, 4 do
  local which = ARGV[at]
  keep_document(names[which], r[2], ARGV[at + 1], 'batch_output', ARGV[at + 2], now, tonumber(ARGV[at + 3]))
  redis.call('HSET', bulk, which, names[which])
end
if ARGV[5] ~= '' then redis.call('HSET', bulk, 'errors', ARGV[5]) end
if ARGV[6] ~= '' then redis.call('HSET', bulk, 'outcome', ARGV[6]) end
redis.call('HSET', bulk, 'state', state, state .. '_at', whole(now))
announce(r[2], 'batch.' .. state, id, '{"id":"' .. id .. '"}', now, {})
if redis.call('EXISTS', K.document .. r[3]) == 1 then redis.call('HINCRBY', K.document .. r[3], 'uses', -1) end
redis.call('ZREM', K.bulks, id)
redis.call('PEXPIRE', bulk, ARGV[4])
redis.call('ZREMRANGEBYSCORE', K.bulks_of .. r[2], '-inf', string.format('(%.4f', now - 2 * tonumber(ARGV[4])))
return 1
