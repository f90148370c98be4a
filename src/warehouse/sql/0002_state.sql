-- Persons, id overrides and groups: the newest version of a key wins, whatever the order of arrival.
-- Not sharded: every node holds all of it, so that events can be joined where they lie.
-- @state
CREATE TABLE IF NOT EXISTS person
(
    `id` UUID CODEC(ZSTD(1)),
    `created_at` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    `team_id` Int64 CODEC(Delta, ZSTD(1)),
    `properties` String CODEC(ZSTD(3)),
    `is_identified` Int8 CODEC(ZSTD(1)),
    `is_deleted` Int8 CODEC(ZSTD(1)),
    `version` UInt64 CODEC(Delta, ZSTD(1)),
    `last_seen_at` Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1)),
    `_timestamp` DateTime DEFAULT now() CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (team_id, id)
SETTINGS @dedup, fsync_after_insert = 1, fsync_part_directory = 1;

-- @state
CREATE TABLE IF NOT EXISTS person_distinct_id_overrides
(
    `team_id` Int64 CODEC(Delta, ZSTD(1)),
    `distinct_id` String CODEC(ZSTD(1)),
    `person_id` UUID CODEC(ZSTD(1)),
    `is_deleted` Int8 CODEC(ZSTD(1)),
    `version` Int64 CODEC(Delta, ZSTD(1)),
    `_timestamp` DateTime DEFAULT now() CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (team_id, distinct_id)
SETTINGS @dedup, index_granularity = 512, fsync_after_insert = 1, fsync_part_directory = 1;

-- @state
CREATE TABLE IF NOT EXISTS groups
(
    `group_type_index` UInt8 CODEC(ZSTD(1)),
    `group_key` String CODEC(ZSTD(1)),
    `created_at` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    `team_id` Int64 CODEC(Delta, ZSTD(1)),
    `group_properties` String CODEC(ZSTD(3)),
    `_version` UInt64 CODEC(Delta, ZSTD(1)),
    `_timestamp` DateTime DEFAULT now() CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(_version)
ORDER BY (team_id, group_type_index, group_key)
SETTINGS @dedup, fsync_after_insert = 1, fsync_part_directory = 1;
