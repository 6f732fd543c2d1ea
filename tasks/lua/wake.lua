#!lua flags=allow-oom
-- Ends the blocking read of every process that follows journals: one of them has a new follower.
-- keys: wake
-- args: none
-- reply: nothing
redis.call('XADD', K.wake, 'MAXLEN', 16, '*', 'w', '')
