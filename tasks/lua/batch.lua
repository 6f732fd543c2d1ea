#!lua flags=no-writes
-- How the jobs of a batch stand. A job that was retried counts as such, and in no state.
-- keys: batch, job
-- args: 1 batch id
-- reply: false when there is no such batch, or {owner, created ms, started ms or '', ended ms or '',
--        the first and the last id that waits or '', word, count, ...} where words are states and 'retried'
local counts, owner, started, ended, first, last = {}, nil, nil, nil, '', ''
local ids = redis.call('ZRANGE', K.batch .. ARGV[1], 0, -1)
for _, id in ipairs(ids) do
  local r = redis.call('HMGET', K.job .. id, 'state', 'owner', 'retried_as', 'started_at', 'ended_at')
  if r[1] then
    owner = owner or r[2]
    local word = r[3] and 'retried' or r[1]
    counts[word] = (counts[word] or 0) + 1
    if word == 'queued' then
      if first == '' then first = id end
      last = id
    end
    if r[4] then started = math.min(started or math.huge, tonumber(r[4])) end
    if r[5] then ended = math.max(ended or 0, tonumber(r[5])) end
  end
end
if not owner then return false end
local created = redis.call('ZRANGE', K.batch .. ARGV[1], 0, 0, 'WITHSCORES')[2]
started, ended = started and whole(started) or '', ended and whole(ended) or ''
local reply = {owner, whole(tonumber(created)), started, ended, first, last}
for word, count in pairs(counts) do
  reply[#reply + 1] = word
  reply[#reply + 1] = count
end
return reply
