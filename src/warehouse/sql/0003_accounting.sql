-- What became of events that are not stored, and what was odd about those that are. The sort keys end in the
-- source and the step or type, so that a replay of the same fact replaces itself.
-- @sharded cityHash64(_log_id, _partition, _offset)
CREATE TABLE IF NOT EXISTS ingestion_warnings
(
    `team_id` Int64 CODEC(Delta, ZSTD(1)),
    `source` LowCardinality(String) CODEC(ZSTD(1)),
    `type` String CODEC(ZSTD(1)),
    `details` String CODEC(ZSTD(3)),
    `timestamp` DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    `_log_id` UUID CODEC(ZSTD(1)),
    `_partition` UInt16 CODEC(ZSTD(1)),
    `_offset` UInt64 CODEC(Delta, ZSTD(1)),
    `_sub` UInt16 CODEC(ZSTD(1)),
    `_timestamp` DateTime DEFAULT now() CODEC(Delta, ZSTD(1)),
    INDEX by_offset _offset TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(timestamp)
ORDER BY (team_id, toDate(timestamp), type, source, _log_id, _partition, _offset, _sub)
SETTINGS @dedup, fsync_after_insert = 1, fsync_part_directory = 1;

-- @sharded cityHash64(_log_id, _partition, _offset)
CREATE TABLE IF NOT EXISTS dead_letters
(
    `team_id` Int64 CODEC(Delta, ZSTD(1)),
    `uuid` UUID CODEC(ZSTD(1)),
    `event` String CODEC(ZSTD(1)),
    `distinct_id` String CODEC(ZSTD(1)),
    `reason` LowCardinality(String) CODEC(ZSTD(1)),
    `detail` String CODEC(ZSTD(3)),
    `step` LowCardinality(String) CODEC(ZSTD(1)),
    `timestamp` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    `raw_header` String CODEC(ZSTD(3)),
    `raw_value` String CODEC(ZSTD(3)),
    `_log_id` UUID CODEC(ZSTD(1)),
    `_partition` UInt16 CODEC(ZSTD(1)),
    `_offset` UInt64 CODEC(Delta, ZSTD(1)),
    `_sub` UInt16 CODEC(ZSTD(1)),
    `_timestamp` DateTime DEFAULT now() CODEC(Delta, ZSTD(1)),
    INDEX by_uuid uuid TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_offset _offset TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(timestamp)
ORDER BY (team_id, toDate(timestamp), _log_id, _partition, _offset, _sub, step)
SETTINGS @dedup, fsync_after_insert = 1, fsync_part_directory = 1;

-- @sharded cityHash64(_log_id, _partition, _offset)
CREATE TABLE IF NOT EXISTS outcomes
(
    `team_id` Int64 CODEC(Delta, ZSTD(1)),
    `uuid` UUID CODEC(ZSTD(1)),
    `event` String CODEC(ZSTD(1)),
    `distinct_id` String CODEC(ZSTD(1)),
    `state` LowCardinality(String) CODEC(ZSTD(1)),
    `reason` LowCardinality(String) CODEC(ZSTD(1)),
    `first_source` String CODEC(ZSTD(1)),
    `timestamp` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    `_log_id` UUID CODEC(ZSTD(1)),
    `_partition` UInt16 CODEC(ZSTD(1)),
    `_offset` UInt64 CODEC(Delta, ZSTD(1)),
    `_sub` UInt16 CODEC(ZSTD(1)),
    `_timestamp` DateTime DEFAULT now() CODEC(Delta, ZSTD(1)),
    INDEX by_uuid uuid TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_offset _offset TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(timestamp)
ORDER BY (team_id, toDate(timestamp), _log_id, _partition, _offset, _sub, state)
SETTINGS @dedup, fsync_after_insert = 1, fsync_part_directory = 1;
