-- Where every stage stands. Positions live here and nowhere else, in coordinates of the log id, so that a recreated
-- topic is never mistaken for the old one.

CREATE TABLE ingest_fence (
  log_id           uuid NOT NULL,
  partition        integer NOT NULL,
  topic            text NOT NULL,
  -- Everything below was decided: its effects are in this database.
  next_offset      bigint NOT NULL,
  -- Everything below was acknowledged by the log in `events`; between the two lies at most one batch.
  produced_through bigint NOT NULL CHECK (produced_through <= next_offset),
  -- The last place emitted to `events` below next_offset; null when none was.
  last_offset      bigint,
  last_sub         integer,
  updated_at       timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (log_id, partition)
);

-- What became of each offset of a batch.
CREATE TABLE receipt (
  log_id        uuid NOT NULL,
  partition     integer NOT NULL,
  from_offset   bigint NOT NULL,
  -- Exclusive.
  to_offset     bigint NOT NULL CHECK (to_offset > from_offset),
  -- Of the raw headers and values of the range: a replay that reads other bytes stops the process.
  checksum      bigint NOT NULL,
  -- Run-length pairs: one outcome code and one row count per offset (src/ledger reads them).
  outcomes      bytea NOT NULL,
  stored        integer NOT NULL,
  duplicate     integer NOT NULL,
  dropped       integer NOT NULL,
  dead_lettered integer NOT NULL,
  -- Rows in ClickHouse (more than `stored` when transformations made several of one), and the sum of their source hashes.
  stored_rows   integer NOT NULL,
  hash_sum      numeric(30) NOT NULL,
  -- The last place emitted before this batch; null when there was none. `prev` of its first row.
  prev_offset   bigint,
  prev_sub      integer,
  config_version integer NOT NULL,
  -- The outbox, by reference: which persons, distinct ids and groups this batch changed and whose state rows must
  -- reach the log. Null once the next batch has shown that they did.
  outbox        jsonb,
  created_at    timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (log_id, partition, from_offset)
);
CREATE INDEX receipt_created ON receipt (created_at);

CREATE TABLE load_fence (
  log_id      uuid NOT NULL,
  partition   integer NOT NULL,
  topic       text NOT NULL,
  next_offset bigint NOT NULL,
  -- Topic `events` only: per raw log id the last accepted place of this partition number, {"<log id>": [offset, sub]}.
  last        jsonb NOT NULL DEFAULT '{}',
  updated_at  timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (log_id, partition)
);

-- One INSERT into one table: written, with the advance of the fences it covers, before it is sent.
CREATE TABLE load_intent (
  -- Also the insert_deduplication_token.
  id         uuid PRIMARY KEY,
  parent     uuid REFERENCES load_intent (id),
  table_name text NOT NULL,
  -- [{"logId", "topic", "partition", "from", "to", "last": {"<raw log id>": [offset, sub]}}]; `last` as it was at `from`.
  ranges     jsonb NOT NULL,
  rows       integer NOT NULL,
  bytes      bigint NOT NULL,
  -- Of the bytes of the INSERT: an heir must send the same.
  checksum   bigint NOT NULL,
  state      text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'done', 'repair')),
  error      text,
  created_at timestamptz NOT NULL DEFAULT now(),
  settled_at timestamptz
);
CREATE INDEX load_intent_open ON load_intent (created_at) WHERE state = 'open';
-- Without it every pruned intent would scan the table for its children.
CREATE INDEX load_intent_parent ON load_intent (parent) WHERE parent IS NOT NULL;
CREATE INDEX load_intent_settled ON load_intent (settled_at) WHERE state = 'done';
