-- Persons, the ids that point at them, and groups. One transaction at a time changes a person: every write of a
-- mapping also bumps its person's version, so that the version check of the writer sees it.
CREATE TABLE person (
  team_id       integer NOT NULL,
  id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  uuid          uuid NOT NULL,
  properties    jsonb NOT NULL DEFAULT '{}',
  created_at    timestamptz NOT NULL,
  is_identified boolean NOT NULL DEFAULT false,
  -- greatest(version + 1, now in ms): rises even over deletion, re-creation and a restored database.
  version       bigint NOT NULL,
  deleted_at    timestamptz,
  -- The person this one was merged into; reads follow it until the mappings have moved.
  merged_into   bigint REFERENCES person (id),
  UNIQUE (team_id, uuid)
);

CREATE TABLE person_distinct_id (
  team_id     integer NOT NULL,
  distinct_id text NOT NULL,
  person_id   bigint NOT NULL REFERENCES person (id),
  -- 0: the id has the person of its own name and never had another; more: an override row was sent.
  version     bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (team_id, distinct_id)
);
CREATE INDEX person_distinct_id_of_person ON person_distinct_id (team_id, person_id);

CREATE TABLE group_type (
  team_id    integer NOT NULL,
  group_type text NOT NULL,
  type_index smallint NOT NULL CHECK (type_index BETWEEN 0 AND 4),
  PRIMARY KEY (team_id, group_type),
  UNIQUE (team_id, type_index)
);

CREATE TABLE group_state (
  team_id    integer NOT NULL,
  type_index smallint NOT NULL,
  group_key  text NOT NULL,
  properties jsonb NOT NULL DEFAULT '{}',
  created_at timestamptz NOT NULL,
  version    bigint NOT NULL,
  PRIMARY KEY (team_id, type_index, group_key)
);
