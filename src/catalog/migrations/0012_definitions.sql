-- Which event names and properties a project has sent: read from ClickHouse in the background, below the load progress.

-- How far each raw partition was read. Moves in the transaction that adds what was read.
CREATE TABLE definition_cursor (
  log_id      uuid NOT NULL,
  partition   integer NOT NULL,
  next_offset bigint NOT NULL,
  PRIMARY KEY (log_id, partition)
);

CREATE TABLE event_definition (
  team_id    bigint NOT NULL,
  event      text NOT NULL,
  volume     bigint NOT NULL,
  first_seen timestamptz NOT NULL,
  last_seen  timestamptz NOT NULL,
  PRIMARY KEY (team_id, event)
);

CREATE TABLE property_definition (
  team_id    bigint NOT NULL,
  kind       text NOT NULL CHECK (kind IN ('event', 'person', 'group')),
  -- Event name, or group type index; empty for a person, and for flags, which are not told apart by event.
  owner      text NOT NULL,
  name       text NOT NULL,
  -- {"string": 12, "number": 3}: every type that was seen, and how often. Nothing is locked in.
  types      jsonb NOT NULL,
  volume     bigint NOT NULL,
  first_seen timestamptz NOT NULL,
  last_seen  timestamptz NOT NULL,
  PRIMARY KEY (team_id, kind, owner, name)
);

-- Per project: how many there are, and what was beyond the limits. Its row is locked by who adds names.
CREATE TABLE definition_count (
  team_id           bigint PRIMARY KEY,
  events            integer NOT NULL DEFAULT 0,
  properties        integer NOT NULL DEFAULT 0,
  -- Occurrences, not names.
  events_beyond     bigint NOT NULL DEFAULT 0,
  properties_beyond bigint NOT NULL DEFAULT 0
);

-- One process reads at a time; it is enough, and the others would read the same.
CREATE TABLE definition_reader (
  only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
  reader   uuid NOT NULL,
  heard_at timestamptz NOT NULL
);
