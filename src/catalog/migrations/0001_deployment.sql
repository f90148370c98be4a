-- What a deployment is born with, and its projects.
CREATE TABLE deployment (
  only_one   boolean PRIMARY KEY DEFAULT true CHECK (only_one),
  id         uuid NOT NULL DEFAULT gen_random_uuid(),
  -- Fixed for ever: the partition of an event is a pure function of its bytes and of this number.
  partitions integer NOT NULL CHECK (partitions BETWEEN 1 AND 4096),
  -- 'embedded' or 'kafka': positions of one are no positions of the other.
  log_kind   text NOT NULL,
  born_at    timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE project (
  team_id    integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name       text NOT NULL UNIQUE,
  token      text NOT NULL UNIQUE CHECK (token <> '' AND length(token) <= 64),
  settings   jsonb NOT NULL DEFAULT '{}',
  created_at timestamptz NOT NULL DEFAULT now()
);
