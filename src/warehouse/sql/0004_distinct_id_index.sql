-- What one distinct id did, without a scan of its project: the sort key has its hash behind day and event name, and leaves
-- nothing out where a day's events of one name are few. Parts that are there already get it with their next merge, or by
-- ALTER TABLE … MATERIALIZE INDEX by_distinct_id.
-- @sharded sipHash64(distinct_id)
ALTER TABLE events ADD INDEX IF NOT EXISTS by_distinct_id distinct_id TYPE bloom_filter(0.01) GRANULARITY 1;

-- @sharded cityHash64(_log_id, _partition, _offset)
ALTER TABLE outcomes ADD INDEX IF NOT EXISTS by_distinct_id distinct_id TYPE bloom_filter(0.01) GRANULARITY 1;
