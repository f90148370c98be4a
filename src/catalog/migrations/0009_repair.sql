-- What `headrace repair` decides about ingest, and what ingest has to do because of it.

-- Nothing is read under this log id any more: its topic is gone, and what it still held was given up.
ALTER TABLE ingest_fence ADD COLUMN closed_at timestamptz;

-- Raw records that were acknowledged and that nobody can read any more, as an operator accepted it. Those whose offsets
-- are known have receipts that say `lost`; of a log that is gone nobody knows the end.
CREATE TABLE ingest_loss (
  log_id      uuid NOT NULL,
  partition   integer NOT NULL,
  from_offset bigint NOT NULL,
  topic       text NOT NULL,
  -- Exclusive; null when it cannot be known.
  to_offset   bigint CHECK (to_offset > from_offset),
  cause       text NOT NULL CHECK (cause IN ('retention', 'recreated')),
  accepted_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (log_id, partition, from_offset)
);

-- After Postgres was restored: what had been decided about raw offsets in the time that it lost, as the row topics
-- say. Ingest decides these offsets once more, the same way, to have their effects and receipts again.
CREATE TABLE ingest_redo (
  log_id      uuid NOT NULL,
  partition   integer NOT NULL,
  from_offset bigint NOT NULL,
  to_offset   bigint NOT NULL CHECK (to_offset > from_offset),
  -- As in a receipt; code 255 where the row topics say nothing.
  outcomes    bytea NOT NULL,
  approved_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (log_id, partition, from_offset)
);

-- State whose newest row in the log and in ClickHouse may not be what Postgres says: to be sent again under a version
-- above `above`, once no partition has anything to decide once more.
CREATE TABLE state_republish (
  kind       text NOT NULL CHECK (kind IN ('person', 'mapping', 'group')),
  team_id    integer NOT NULL,
  -- Of a group; 0 for the others.
  type_index smallint NOT NULL,
  -- Person uuid, distinct id or group key.
  key        text NOT NULL,
  above      bigint NOT NULL,
  PRIMARY KEY (kind, team_id, type_index, key)
);
