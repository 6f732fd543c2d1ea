#!lua flags=allow-oom
-- A new process owns the card: raises the epoch and gives back at once every lease an older epoch holds.
-- The process that held them is dead (it held the card's lock), so each is a strike.
-- keys: the card's epoch, cards, leases, and what giving back or ending a job touches
-- args: 1 card id, 2 the epoch's key, 3 max strikes, 4 journal ttl ms, 5 what is known of the dead process's end, or ''
-- reply: {epoch, {id, outcome, ...}}
local now = clock_ms()
local epoch = redis.call('INCR', ARGV[2])
redis.call('SADD', K.cards, ARGV[1])
local outcomes = {}
for _, id in ipairs(redis.call('ZRANGE', K.leases, 0, -1)) do
  local r = redis.call('HMGET', K.job .. id, 'card', 'epoch')
  if r[1] == ARGV[1] and tonumber(r[2]) < epoch then
    outcomes[#outcomes + 1] = id
    outcomes[#outcomes + 1] = bereave(id, now, tonumber(ARGV[3]), ARGV[4], ARGV[5])
  end
end
return {epoch, outcomes}
