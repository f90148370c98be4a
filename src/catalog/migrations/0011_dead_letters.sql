-- What people decided about dead letters. The letters themselves are rows of ClickHouse and stay there.

-- One order to send letters again. Worked on by a capture process, one at a time, which renews its lease.
CREATE TABLE dead_letter_job (
  id                uuid PRIMARY KEY,
  asked_by          text NOT NULL,
  why               text NOT NULL,
  -- What was asked for, for people to read.
  filter            jsonb NOT NULL,
  events_per_second integer NOT NULL CHECK (events_per_second > 0),
  letters           integer NOT NULL,
  state             text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'done', 'stopped')),
  -- What it waits for, or why it was stopped.
  says              text NOT NULL DEFAULT '',
  runner            uuid,
  heard_at          timestamptz,
  created_at        timestamptz NOT NULL DEFAULT now(),
  ended_at          timestamptz
);
CREATE INDEX dead_letter_job_open ON dead_letter_job (created_at) WHERE state = 'open';

-- A letter without a row here is open.
CREATE TABLE dead_letter_decision (
  log_id      uuid NOT NULL,
  partition   integer NOT NULL,
  raw_offset  bigint NOT NULL,
  sub         integer NOT NULL,
  step        text NOT NULL,
  -- With the place, the sort key of its row in ClickHouse.
  team_id     bigint NOT NULL,
  letter_ms   bigint NOT NULL,
  bytes       integer NOT NULL,
  state       text NOT NULL CHECK (state IN ('planned', 'sending', 'replayed', 'failed', 'discarded')),
  job_id      uuid REFERENCES dead_letter_job (id),
  decided_by  text NOT NULL,
  why         text NOT NULL,
  decided_at  timestamptz NOT NULL DEFAULT now(),
  -- From `sending` on: the raw topic that it goes to, and the end of its partition before it was sent.
  sent_log_id uuid,
  sent_from   bigint,
  -- From `replayed` on: where it is.
  sent_offset bigint,
  detail      text NOT NULL DEFAULT '',
  changed_at  timestamptz NOT NULL DEFAULT now(),
  -- Decisions before this one, oldest first.
  history     jsonb NOT NULL DEFAULT '[]',
  PRIMARY KEY (log_id, partition, raw_offset, sub, step)
);
CREATE INDEX dead_letter_decision_work ON dead_letter_decision (job_id, log_id, partition, raw_offset)
  WHERE state IN ('planned', 'sending');
