-- Deletion of persons and projects, as it was ordered and how far it is.

CREATE TABLE deletion (
  id         uuid PRIMARY KEY,
  kind       text NOT NULL CHECK (kind IN ('person', 'project')),
  team_id    integer NOT NULL,
  -- What is meant, {"uuid": …} or {"distinctId": …}, or {"project": …}. Of a person it goes when the deletion is done.
  subject    jsonb,
  asked_by   text NOT NULL,
  why        text NOT NULL,
  -- asked ──▶ taken (out of Postgres) ──▶ erasing (positions noted) ──▶ done
  state      text NOT NULL DEFAULT 'asked' CHECK (state IN ('asked', 'taken', 'erasing', 'done')),
  -- Above every version that a person or a distinct id of the subject had.
  version    bigint,
  -- Per raw partition [{"logId", "topic", "partition", "decided", "end"}]: what was decided when the subject was taken
  -- out, and the end of the raw log right after; see docs/decisions/0029.
  positions  jsonb,
  -- The one piece of ClickHouse that is being erased; its rows are in `erasures`, not carried out yet.
  piece      jsonb,
  -- Rows by table, persons and distinct ids.
  counts     jsonb NOT NULL DEFAULT '{}',
  created_at timestamptz NOT NULL DEFAULT now(),
  ended_at   timestamptz
);
-- Also: which orders of a project are open.
CREATE UNIQUE INDEX deletion_open ON deletion (team_id, kind, subject) WHERE state <> 'done';

-- Which projects are on their way out, or gone: asked with every batch of definitions.
CREATE INDEX deletion_of_projects ON deletion (team_id) WHERE kind = 'project';

-- The persons and distinct ids of a deletion under way.
CREATE TABLE deletion_target (
  deletion_id uuid NOT NULL REFERENCES deletion (id),
  kind        text NOT NULL CHECK (kind IN ('person', 'distinct_id')),
  -- Person uuid, or distinct id.
  key         text NOT NULL,
  -- Of a person: when it was first seen, epoch ms; null when Postgres had no such person.
  created_ms  bigint,
  -- Of a distinct id: override rows of it were sent.
  overridden  boolean NOT NULL DEFAULT false,
  PRIMARY KEY (deletion_id, kind, key)
);

-- Which places a record stands for: runs, packed (src/ledger/erased-places.ts). Null in records without.
ALTER TABLE erasures ADD COLUMN places bytea;
ALTER TABLE erasures DROP CONSTRAINT erasures_table_name_check;
ALTER TABLE erasures ADD CONSTRAINT erasures_table_name_check
  CHECK (table_name IN ('events', 'outcomes', 'dead_letters', 'ingestion_warnings'));
CREATE INDEX erasures_run ON erasures (run_id) WHERE erased_at IS NULL;

-- A project on its way out: capture does not know the token of one that is closing, ingest takes nothing of a closed one.
ALTER TABLE project
  ADD COLUMN state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'closing', 'closed')),
  ADD COLUMN state_at timestamptz NOT NULL DEFAULT now();

-- By the person alone: a person that goes is looked for among the mappings without its project, and with it that is as good.
CREATE INDEX person_distinct_id_by_person ON person_distinct_id (person_id);
DROP INDEX person_distinct_id_of_person;

-- What was decided about the dead letters of a project, when it goes.
CREATE INDEX dead_letter_decision_team ON dead_letter_decision (team_id);

-- Who was merged into a person.
CREATE INDEX person_merged_into ON person (merged_into) WHERE merged_into IS NOT NULL;

-- The ids of all persons that are, or were merged into, the one that a uuid or a distinct id leads to.
CREATE FUNCTION persons_behind(p_team integer, p_uuid uuid, p_distinct_id text) RETURNS bigint[]
LANGUAGE sql STABLE AS $$
  WITH RECURSIVE up AS (
    SELECT p.id, p.merged_into FROM person p
    WHERE p.team_id = p_team AND (p.uuid = p_uuid OR p.id = (
      SELECT m.person_id FROM person_distinct_id m WHERE m.team_id = p_team AND m.distinct_id = p_distinct_id))
    UNION
    SELECT p.id, p.merged_into FROM up JOIN person p ON p.id = up.merged_into
  ), down AS (
    SELECT id FROM up
    UNION
    SELECT p.id FROM down JOIN person p ON p.merged_into = down.id
  )
  SELECT coalesce(array_agg(id ORDER BY id), '{}') FROM down
$$;

-- Those of some distinct ids of which an order is open to delete whose they are: nothing of theirs is sent again.
CREATE FUNCTION ids_being_deleted(p_team integer, p_ids text[]) RETURNS SETOF text
LANGUAGE sql STABLE AS $$
  WITH orders AS MATERIALIZED (
    SELECT d.id, d.kind, d.subject ->> 'distinctId' AS distinct_id, CASE WHEN d.kind = 'person' AND d.state = 'asked'
      THEN persons_behind(p_team, (d.subject ->> 'uuid')::uuid, d.subject ->> 'distinctId') END AS persons
    FROM deletion d WHERE d.team_id = p_team AND d.state <> 'done'
  )
  SELECT i FROM unnest(p_ids) i WHERE EXISTS (
    SELECT FROM orders o WHERE o.kind = 'project' OR o.distinct_id = i
      OR EXISTS (
        SELECT FROM deletion_target t WHERE t.deletion_id = o.id AND t.kind = 'distinct_id' AND t.key = i)
      OR EXISTS (
        SELECT FROM person_distinct_id m
        WHERE m.team_id = p_team AND m.distinct_id = i AND m.person_id = ANY (o.persons)))
$$;

-- Takes the person of a deletion out of Postgres: tombstones for it and all that were merged into it, nothing else of
-- them; its distinct ids have no mapping any more, so whoever comes back under one of them is somebody new. The rows that
-- say so reach the log by way of state_republish. In the same moment it notes how far each raw partition was decided.
--
-- Locks: the fences in front of all others, as in apply_batch, so that no batch is applied between the two; then
-- persons by id. Milliseconds, and longer for a person with very many ids. p_uuid_of_id: the uuid that the distinct id
-- gives by itself. Must run under READ COMMITTED.
CREATE FUNCTION take_person_out(p_deletion uuid, p_uuid uuid, p_distinct_id text, p_uuid_of_id uuid)
RETURNS void LANGUAGE plpgsql VOLATILE SET lock_timeout = '5s' AS $$
DECLARE
  d           record;
  v_positions jsonb;
  v_ids       bigint[];
  v_version   bigint;
BEGIN
  SELECT * INTO STRICT d FROM deletion WHERE id = p_deletion AND state = 'asked' FOR UPDATE;
  SELECT jsonb_agg(jsonb_build_object('logId', f.log_id, 'topic', f.topic, 'partition', f.partition,
      'decided', f.next_offset, 'end', f.next_offset) ORDER BY f.log_id, f.partition)
  INTO v_positions
  FROM (SELECT * FROM ingest_fence ORDER BY log_id, partition FOR SHARE) f;

  -- Who waited for a lock may find another merge than the one that it saw: look again until nothing is new.
  LOOP
    v_ids := persons_behind(d.team_id, p_uuid, p_distinct_id);
    PERFORM FROM pending_move WHERE person_id = ANY (v_ids) ORDER BY person_id FOR UPDATE;
    PERFORM FROM person WHERE id = ANY (v_ids) ORDER BY id FOR NO KEY UPDATE;
    EXIT WHEN v_ids = persons_behind(d.team_id, p_uuid, p_distinct_id);
  END LOOP;

  -- Rows of moved ids that are on their way would come behind those that take them back, with nothing to take them.
  PERFORM FROM pending_move WHERE person_id = ANY (v_ids) AND outbox IS NOT NULL;
  IF FOUND THEN
    RAISE EXCEPTION 'ids of the person are on their way to another one' USING ERRCODE = 'lock_not_available';
  END IF;

  INSERT INTO deletion_target (deletion_id, kind, key, created_ms)
  SELECT p_deletion, 'person', uuid::text, round(extract(epoch FROM created_at) * 1000) FROM person WHERE id = ANY (v_ids);
  -- Events without a person carry the uuid that their distinct id gives.
  INSERT INTO deletion_target (deletion_id, kind, key)
  SELECT p_deletion, 'person', k::text FROM unnest(ARRAY[p_uuid, p_uuid_of_id]) k WHERE k IS NOT NULL
  ON CONFLICT DO NOTHING;
  INSERT INTO deletion_target (deletion_id, kind, key, overridden)
  SELECT p_deletion, 'distinct_id', distinct_id, version > 0 FROM person_distinct_id
  WHERE team_id = d.team_id AND person_id = ANY (v_ids);
  INSERT INTO deletion_target (deletion_id, kind, key)
  SELECT p_deletion, 'distinct_id', p_distinct_id WHERE p_distinct_id IS NOT NULL
  ON CONFLICT DO NOTHING;

  SELECT greatest(
    (SELECT max(version) + 1 FROM person WHERE id = ANY (v_ids)),
    (SELECT max(version) + 1 FROM person_distinct_id WHERE team_id = d.team_id AND person_id = ANY (v_ids)),
    (extract(epoch FROM clock_timestamp()) * 1000)::bigint) INTO v_version;

  INSERT INTO state_republish (kind, team_id, type_index, key, above)
  SELECT 'person', d.team_id, 0, uuid::text, v_version FROM person WHERE id = ANY (v_ids)
  UNION ALL
  SELECT 'mapping', d.team_id, 0, distinct_id, v_version FROM person_distinct_id
  WHERE team_id = d.team_id AND person_id = ANY (v_ids) AND version > 0
  ON CONFLICT (kind, team_id, type_index, key) DO UPDATE SET above = greatest(state_republish.above, excluded.above);

  DELETE FROM person_distinct_id WHERE team_id = d.team_id AND person_id = ANY (v_ids);
  DELETE FROM pending_move WHERE person_id = ANY (v_ids);
  UPDATE person SET properties = '{}', properties_bytes = 2, property_times = NULL, is_identified = false,
    created_at = now(), version = v_version, deleted_at = now(), merged_into = NULL
  WHERE id = ANY (v_ids);

  UPDATE deletion SET state = 'taken', version = v_version, positions = coalesce(v_positions, '[]'),
    counts = jsonb_build_object('persons', cardinality(v_ids),
      'distinctIds', (SELECT count(*) FROM deletion_target t WHERE t.deletion_id = p_deletion AND t.kind = 'distinct_id'))
  WHERE id = p_deletion;
END $$;
