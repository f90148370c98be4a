-- What projects want done to their events before these are stored.

-- Every set that was ever published, in the order of publishing over all projects. A batch is decided under one
-- generation: of each project the newest set that is not newer. Nothing here is ever changed or deleted, because a
-- replay and a repair decide as the first time did. Generation 1 is that of no set at all.
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
