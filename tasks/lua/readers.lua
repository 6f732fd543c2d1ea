#!lua flags=allow-oom
-- Says who reads: renews the readers of jobs that are followed, drops those of jobs that nobody follows any more.
-- Even out of memory: a streamed job that seems to have no reader is cancelled.
-- keys: reader
-- args: 1 reader ttl ms, 2 how many were left, 3.. their ids, then the ids of those that are followed
-- reply: nothing
local followed = 3 + tonumber(ARGV[2])
for i = 3, followed - 1 do redis.call('DEL', K.reader .. ARGV[i]) end
for i = followed, #ARGV do redis.call('SET', K.reader .. ARGV[i], '1', 'PX', ARGV[1]) end
