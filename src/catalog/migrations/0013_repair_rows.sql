-- What `headrace repair rows` does to ClickHouse.

-- Every insert of it, written before its rows are sent. One that is open was cut off: it may have landed, or may land
-- still. Whoever repairs next sends the same places under the same token before anything else, so that it cannot land
-- any more, and then asks what is there.
CREATE TABLE repair_attempt (
  -- Also the insert token.
  id         uuid PRIMARY KEY,
  table_name text NOT NULL,
  log_id     uuid NOT NULL,
  partition  integer NOT NULL,
  -- Runs [from offset, to offset, sub] of the places of its rows.
  places     jsonb NOT NULL,
  rows       integer NOT NULL CHECK (rows > 0),
  state      text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'done', 'refused')),
  created_at timestamptz NOT NULL DEFAULT now(),
  settled_at timestamptz
);
CREATE INDEX repair_attempt_open ON repair_attempt (created_at) WHERE state = 'open';

-- Stored once, and now neither in ClickHouse nor in a log that it could be made from.
ALTER TABLE ingest_loss DROP CONSTRAINT ingest_loss_cause_check;
ALTER TABLE ingest_loss ADD CONSTRAINT ingest_loss_cause_check
  CHECK (cause IN ('retention', 'recreated', 'warehouse'));
