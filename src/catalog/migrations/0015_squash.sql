-- Squash: overrides of distinct ids, written into the stored events and taken away.

CREATE TABLE squash (
  id         uuid PRIMARY KEY,
  asked_by   text NOT NULL,
  -- asked ──▶ snapped (overrides and the raw log's ends noted) ──▶ writing ──▶ removing ──▶ done
  state      text NOT NULL DEFAULT 'asked' CHECK (state IN ('asked', 'snapped', 'writing', 'removing', 'done')),
  -- Overrides whose newest row came to ClickHouse before.
  before     timestamptz NOT NULL,
  -- Of the snapshot in ClickHouse {"keys", "hash"}: another one is not gone on with.
  snapshot   jsonb,
  -- The ends of the raw log after the snapshot: [{"logId", "topic", "partition", "end"}].
  ends       jsonb,
  -- {"events", "overrides"}
  counts     jsonb NOT NULL DEFAULT '{}',
  created_at timestamptz NOT NULL DEFAULT now(),
  ended_at   timestamptz
);
CREATE UNIQUE INDEX squash_open ON squash ((true)) WHERE state <> 'done';

-- Up to this version of the mapping stored events say what its override row said, and ClickHouse has no such row any
-- more. Null: never. Nobody but squash and repair looks at it.
ALTER TABLE person_distinct_id ADD COLUMN squashed_version bigint;
