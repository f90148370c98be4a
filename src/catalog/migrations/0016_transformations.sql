-- What projects want done to their events before these are stored.

-- Every set that was ever published, in the order of publishing over all projects. A batch is decided under one
-- generation: of each project the newest set that is not newer. Nothing here is ever changed, and it goes only with its
-- project, because a replay and a repair decide as the first time did. Generation 1 is that of no set at all.
CREATE TABLE transformation_set (
  generation   integer PRIMARY KEY CHECK (generation > 1),
  team_id      integer NOT NULL,
  -- Counts within the project.
  version      integer NOT NULL,
  definition   jsonb NOT NULL,
  note         text NOT NULL,
  published_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (team_id, version)
);

-- The key of `hash`. Another one would give other hashes: it stays as long as the project.
CREATE TABLE transformation_key (
  team_id integer PRIMARY KEY,
  key     bytea NOT NULL
);

-- Drafts that are run beside what holds, to see what they would make of live traffic. Nothing is stored because of them
-- but what stands here. One per project; another one begins anew.
CREATE TABLE transformation_shadow (
  team_id    integer PRIMARY KEY,
  -- Tells what was counted for this draft from what is still coming in for the one before it.
  run        uuid NOT NULL,
  definition jsonb NOT NULL,
  key        bytea NOT NULL,
  started_at timestamptz NOT NULL DEFAULT now(),
  stops_at   timestamptz NOT NULL,
  -- Why it stopped before its time; empty while it did not.
  trouble    text NOT NULL DEFAULT '',
  -- {"same": 900, "differs": 80, "kept → dropped": 20}
  counts     jsonb NOT NULL DEFAULT '{}',
  -- {"properties.plan": 80}: what differs, and in how many events.
  fields     jsonb NOT NULL DEFAULT '{}',
  -- At most 20: [{"uuid": …, "event": …, "became": …, "differences": […]}]
  samples    jsonb NOT NULL DEFAULT '[]'
);
