#!lua flags=allow-oom
-- Forgets a file of /v1/files, unless a batch that has not ended needs it; its bytes are to be removed afterwards.
-- keys: document, documents, documents_of, document_bytes
-- args: 1 id, 2 '' or ms by which a file that is needed is looked at again later
-- reply: {'dropped'} | {'needed'} | {'unknown'}
local id = ARGV[1]
local r = redis.call('HMGET', K.document .. id, 'owner', 'size', 'uses')
if not r[1] then
  redis.call('ZREM', K.documents, id)
  return {'unknown'}
end
if tonumber(r[3]) > 0 then
  if ARGV[2] ~= '' then redis.call('ZADD', K.documents, whole(clock_ms() + tonumber(ARGV[2])), id) end
  return {'needed'}
end
redis.call('DEL', K.document .. id)
redis.call('ZREM', K.documents, id)
redis.call('ZREM', K.documents_of .. r[1], id)
redis.call('DECRBY', K.document_bytes, r[2])
return {'dropped'}
