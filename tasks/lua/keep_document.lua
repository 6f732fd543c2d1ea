#!lua
-- Notes an uploaded file, unless there are too many. Refused when Redis is out of memory, as new work is.
-- keys: document, documents, documents_of, document_bytes
-- args: 1 id, 2 owner, 3 name, 4 purpose, 5 size bytes, 6 to be kept for ms, 7 most files of one owner,
--       8 most bytes of all files
-- reply: {'kept'} | {'many'} | {'full'}
local now = clock_ms()
if redis.call('EXISTS', K.document .. ARGV[1]) == 1 then return {'kept'} end
if redis.call('ZCARD', K.documents_of .. ARGV[2]) >= tonumber(ARGV[7]) then return {'many'} end
local taken = tonumber(redis.call('GET', K.document_bytes) or 0)
if taken + tonumber(ARGV[5]) > tonumber(ARGV[8]) then return {'full'} end
keep_document(ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], now, tonumber(ARGV[6]))
return {'kept'}
