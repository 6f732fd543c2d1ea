#!lua flags=no-writes
-- In which state each job of a batch is, in their order.
-- keys: batch, job
-- args: 1 batch id
-- reply: one letter for each job, the first of its state; '-' for one that is no longer known
local letters = {}
for i, id in ipairs(redis.call('ZRANGE', K.batch .. ARGV[1], 0, -1)) do
  local state = redis.call('HGET', K.job .. id, 'state')
  letters[i] = state and string.sub(state, 1, 1) or '-'
end
return table.concat(letters)
