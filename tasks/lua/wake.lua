#!lua flags=allow-oom
-- Ends a blocking read of every process that follows journals: there is something new in its lane.
-- keys: those of the lanes
-- args: 1 the lane's key
-- reply: nothing
redis.call('XADD', ARGV[1], 'MAXLEN', 16, '*', 'w', '')
