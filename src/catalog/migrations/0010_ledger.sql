-- What the ledger keeps beside the receipts.

-- Rows that a deletion or a retention takes out of ClickHouse: written before they are taken, in one transaction for
-- all ranges of one pass, so that the audit knows what is gone on purpose. A pass that was interrupted is carried out
-- again as it was recorded: who counted anew would miss what it had taken already.
CREATE TABLE erasures (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  -- The deletion or retention run that it belongs to.
  run_id      uuid NOT NULL,
  state       text NOT NULL CHECK (state IN ('erased', 'expired')),
  table_name  text NOT NULL CHECK (table_name IN ('events', 'outcomes')),
  log_id      uuid NOT NULL,
  partition   integer NOT NULL,
  -- From the first to the last of these rows, and never over a multiple of 10,000 offsets: so a range is short, and
  -- of a few rows it is nearly their offsets.
  from_offset bigint NOT NULL,
  to_offset   bigint NOT NULL,
  -- How many distinct places, and the sum of their source hashes (as in receipt.hash_sum).
  rows        integer NOT NULL CHECK (rows > 0),
  hash_sum    numeric(30) NOT NULL,
  recorded_at timestamptz NOT NULL DEFAULT now(),
  -- When ClickHouse had really taken them; until then each of them may be there or not.
  erased_at   timestamptz,
  CHECK (to_offset > from_offset AND from_offset / 10000 = (to_offset - 1) / 10000)
);
CREATE INDEX erasures_range ON erasures (log_id, partition, from_offset);
CREATE INDEX erasures_open ON erasures (recorded_at) WHERE erased_at IS NULL;

-- How far the running audit has come in each raw partition, so that a restart goes on instead of beginning again.
CREATE TABLE audit_progress (
  log_id          uuid NOT NULL,
  partition       integer NOT NULL,
  -- Everything below was compared; what did not add up is in audit_gap.
  audited_through bigint NOT NULL DEFAULT 0,
  audited_at      timestamptz,
  -- The pass that looks at everything again: its next offset (0 = none is under way), when the last one began, and
  -- when the last one ended.
  pass_next       bigint NOT NULL DEFAULT 0,
  pass_began_at   timestamptz NOT NULL DEFAULT now(),
  pass_ended_at   timestamptz,
  PRIMARY KEY (log_id, partition)
);

-- Ranges in which offsets did not add up when they were last looked at.
CREATE TABLE audit_gap (
  log_id      uuid NOT NULL,
  partition   integer NOT NULL,
  from_offset bigint NOT NULL,
  to_offset   bigint NOT NULL CHECK (to_offset > from_offset),
  -- How many of them.
  unaccounted bigint NOT NULL,
  found_at    timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (log_id, partition, from_offset)
);

-- Which process does the work of the ledger that only one may do at a time.
CREATE TABLE ledger_lease (
  only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
  holder   uuid NOT NULL,
  until    timestamptz NOT NULL
);

-- What became of a batch by hour of capture, project, SDK and outcome: [[hour, team_id, sdk, outcome code, events], …],
-- the hour in hours since 1970. Null on receipts that were not made by ingest or were merged.
ALTER TABLE receipt ADD COLUMN counts jsonb;

-- apply_batch is given them in the outbox, which goes when the batch is in the log; these stay.
CREATE FUNCTION keep_receipt_counts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.counts := NEW.outbox -> 'counts';
  NEW.outbox := NEW.outbox - 'counts';
  RETURN NEW;
END $$;
CREATE TRIGGER receipt_counts BEFORE INSERT ON receipt
FOR EACH ROW WHEN (NEW.outbox ? 'counts') EXECUTE FUNCTION keep_receipt_counts();

-- The receipts, rolled up: how often which outcome, below audit_progress.rolled_through.
CREATE TABLE receipt_hourly (
  -- Of capture; of what is older than the detail of receipts is kept, the first hour of the day.
  hour    timestamptz NOT NULL,
  -- 0 where no project is known.
  team_id integer NOT NULL,
  sdk     text NOT NULL,
  code    smallint NOT NULL,
  events  bigint NOT NULL,
  PRIMARY KEY (hour, team_id, sdk, code)
);
ALTER TABLE audit_progress
  ADD COLUMN rolled_through bigint NOT NULL DEFAULT 0,
  -- Receipts below were merged as far as they will be.
  ADD COLUMN merged_through bigint NOT NULL DEFAULT 0;
