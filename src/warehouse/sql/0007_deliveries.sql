-- What became of each event at each destination that wanted it. A newer row of the same event and destination replaces
-- an older one.
-- @sharded cityHash64(_log_id, _partition, _offset)
CREATE TABLE IF NOT EXISTS deliveries
(
    `team_id` Int64 CODEC(Delta, ZSTD(1)),
    `destination_id` UUID CODEC(ZSTD(1)),
    `uuid` UUID CODEC(ZSTD(1)),
    `event` String CODEC(ZSTD(1)),
    `distinct_id` String CODEC(ZSTD(1)),
    `state` LowCardinality(String) CODEC(ZSTD(1)),
    `attempts` UInt32 CODEC(ZSTD(1)),
    `status` UInt16 CODEC(ZSTD(1)),
    `response` String CODEC(ZSTD(3)),
    `timestamp` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    `finished_at` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    `_log_id` UUID CODEC(ZSTD(1)),
    `_partition` UInt16 CODEC(ZSTD(1)),
    `_offset` UInt64 CODEC(Delta, ZSTD(1)),
    `_sub` UInt16 CODEC(ZSTD(1)),
    `_version` UInt64 CODEC(ZSTD(1)),
    `_timestamp` DateTime DEFAULT now() CODEC(Delta, ZSTD(1)),
    INDEX by_uuid uuid TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_offset _offset TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree(_version)
PARTITION BY toYYYYMM(timestamp)
ORDER BY (team_id, destination_id, toDate(timestamp), _log_id, _partition, _offset, _sub)
SETTINGS @dedup, fsync_after_insert = 1, fsync_part_directory = 1;
