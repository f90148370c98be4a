-- Destinations, and where each of them stands in every partition of topic `events`.

-- Rises with every change of a destination: what a deliver process has not seen yet is what is above.
CREATE SEQUENCE destination_change;

CREATE TABLE destination (
  id         uuid PRIMARY KEY,
  team_id    bigint NOT NULL,
  name       text NOT NULL,
  kind       text NOT NULL,
  -- Filter, sample, limits and the options of the kind; secrets only by name.
  config     jsonb NOT NULL,
  -- {"name": value}, sealed with the key of the deployment; null when there is none.
  secrets    text,
  state      text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'paused', 'deleted')),
  -- Why it is paused, for people.
  says       text NOT NULL DEFAULT '',
  -- A replay delivers a range of the past with the configuration and the ids of this one.
  replay_of  uuid REFERENCES destination (id),
  change     bigint NOT NULL DEFAULT nextval('destination_change'),
  created_at timestamptz NOT NULL DEFAULT now(),
  changed_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX destination_name ON destination (team_id, name) WHERE state <> 'deleted' AND replay_of IS NULL;
CREATE INDEX destination_changed ON destination (change);

-- The shared reader of one partition of `events`. Its owner raises `epoch` when it takes over.
CREATE TABLE delivery_fence (
  log_id      uuid NOT NULL,
  partition   integer NOT NULL,
  epoch       bigint NOT NULL DEFAULT 0,
  -- Everything below is settled for every attached destination.
  next_offset bigint NOT NULL,
  -- As in load_fence: {"<raw log id>": [offset, sub]}.
  last        jsonb NOT NULL DEFAULT '{}',
  updated_at  timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (log_id, partition)
);

CREATE TABLE delivery_cursor (
  destination_id uuid NOT NULL REFERENCES destination (id),
  log_id         uuid NOT NULL,
  partition      integer NOT NULL,
  -- Null: attached, its position is that of the fence. Else detached, and everything below is settled.
  next_offset    bigint,
  last           jsonb NOT NULL DEFAULT '{}',
  -- It began in the middle: the first row of a raw log that `last` does not name says what came before.
  adopt          boolean NOT NULL DEFAULT false,
  -- A replay ends here, and there in the raw logs.
  until_offset   bigint,
  until_last     jsonb,
  -- What became of the events of the project since `since`: seen is the sum of the others and of what waits in delivery_retry.
  since_offset   bigint NOT NULL,
  since_last     jsonb NOT NULL DEFAULT '{}',
  seen           bigint NOT NULL DEFAULT 0,
  filtered       bigint NOT NULL DEFAULT 0,
  sampled_out    bigint NOT NULL DEFAULT 0,
  delivered      bigint NOT NULL DEFAULT 0,
  failed         bigint NOT NULL DEFAULT 0,
  expired        bigint NOT NULL DEFAULT 0,
  updated_at     timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (destination_id, log_id, partition)
) WITH (fillfactor = 50);
CREATE INDEX delivery_cursor_partition ON delivery_cursor (log_id, partition);

-- Events that failed alone and are tried again one by one, with all that is needed to do so.
CREATE TABLE delivery_retry (
  destination_id uuid NOT NULL,
  -- Of topic `events`: whoever owns the partition tries them again.
  log_id         uuid NOT NULL,
  partition      integer NOT NULL,
  raw_log_id     uuid NOT NULL,
  raw_offset     bigint NOT NULL,
  sub            integer NOT NULL,
  -- Its distinct_id when the destination keeps the order of each; later events of the same wait behind it.
  order_key      text,
  event_row      bytea NOT NULL,
  attempts       integer NOT NULL,
  next_at        timestamptz NOT NULL,
  first_at       timestamptz NOT NULL DEFAULT now(),
  status         integer NOT NULL DEFAULT 0,
  response       text NOT NULL DEFAULT '',
  -- Sent again by hand: it was counted as failed before.
  again          boolean NOT NULL DEFAULT false,
  PRIMARY KEY (destination_id, log_id, partition, raw_log_id, raw_offset, sub)
);
CREATE INDEX delivery_retry_due ON delivery_retry (log_id, partition, next_at);
