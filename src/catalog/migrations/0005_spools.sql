-- The spools of capture: events that were acknowledged while the log was out of reach lie in one until they are in
-- the log. Told by whoever holds the spool; audit lists one that is not empty or that nobody tells of.
CREATE TABLE spool (
  id       uuid PRIMARY KEY,
  host     text NOT NULL,
  folder   text NOT NULL,
  -- Offsets of the spool itself: its end, and how far it was drained into the log.
  accepted bigint NOT NULL,
  drained  bigint NOT NULL CHECK (drained <= accepted),
  -- On its disk.
  bytes    bigint NOT NULL,
  state    text NOT NULL,
  heard_at timestamptz NOT NULL DEFAULT now()
);
