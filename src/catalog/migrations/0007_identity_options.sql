-- What the identity step needs to know of a person beside its properties.

ALTER TABLE person
  -- Of `properties` as text: a reader must know beforehand what a batch would bring into its memory.
  ADD COLUMN properties_bytes integer NOT NULL DEFAULT 2,
  -- When each property was written, {key: ms} or {key: [ms, ms]}; null where the order of arrival counts.
  ADD COLUMN property_times jsonb;
UPDATE person SET properties_bytes = octet_length(properties::text);

-- Whoever opened the partition last: one token over its lanes. The lanes share what was seen before, so a former owner that
-- wakes up must not go on with one of them while the other is in new hands. Null: nobody has opened it yet.
ALTER TABLE ingest_fence ADD COLUMN owner uuid;

-- A new version of a row finds room beside the old one: then no index has to learn of it.
ALTER TABLE person SET (fillfactor = 80);

-- As 0004 made it, but for: properties come as lines of text, each of which is parsed once (as a part of one large
-- jsonb they were parsed, copied out and copied again: 40 µs more per person of 1 kB); and the two new columns.
--
-- Order of locks, the same for every caller, so that two batches cannot wait for each other in a circle: the fence,
-- existing persons by id, new persons by (team, uuid), mappings by (team, distinct_id), group types by (team, type),
-- groups by key. A mapping is only ever changed by who holds the lock of its person.
--
-- Errors of its own: HR001 the fence does not stand at `from`, or has another owner; HR002 something that the caller read has changed.
-- Either rolls the whole statement back. Must run under READ COMMITTED, where each step sees what was committed
-- while an earlier step waited.
--
-- p_head       position, receipt and outbox (see the record below)
-- p_check_*    every person that is changed or that a decision rested on: id, version as read, was it a tombstone
-- p_updates    [{i: id, v: version, b: properties_bytes, c: created_at ms, f: is_identified, k: property_times}];
--              b: null when only this server knows; k: null leaves them as they are, {} removes them
-- p_updated    the properties of each, a line each; an empty line leaves them as they are
-- p_inserts    [{t: team, u: uuid, v, b, c, f, k}]
-- p_inserted   the properties of each, a line each
-- p_changes    merges    [{t, l: uuid of the loser, k: uuid merged into, h: uuid that gets the ids, v, n: now in ms}]
--              mappings  [{t, d: distinct_id, u: person uuid, v: version, e: version as read, null when absent}]
--              types     [{t, g: group type, i: index}]
--              groups    [{t, i, k: key, v, p, c, e: version as read, null when absent}]
-- Returns the ids that moved with merges: [[team_id, distinct_id, person uuid, version], …].
DROP FUNCTION apply_batch(jsonb, bytea, bigint[], bigint[], boolean[], jsonb, jsonb, jsonb, integer);
CREATE FUNCTION apply_batch(
  p_head jsonb, p_outcomes bytea,
  p_check_ids bigint[], p_check_versions bigint[], p_check_dead boolean[],
  p_updates jsonb, p_updated text, p_inserts jsonb, p_inserted text, p_changes jsonb, p_move_max integer
) RETURNS jsonb LANGUAGE plpgsql VOLATILE SET lock_timeout = '5s' AS $$
DECLARE
  h       record;
  m       record;
  v_moved jsonb := '[]';
  v_some  jsonb;
  v_count bigint;
BEGIN
  SELECT * INTO STRICT h FROM jsonb_to_record(p_head) AS x(
    log_id uuid, partition integer, owner uuid, "from" bigint, "to" bigint, through bigint, checksum bigint,
    stored integer, duplicate integer, dropped integer, dead_lettered integer, stored_rows integer, hash_sum numeric,
    prev_offset bigint, prev_sub integer, last_offset bigint, last_sub integer, config_version integer, outbox jsonb);

  UPDATE ingest_fence f
  SET next_offset = h."to", produced_through = greatest(f.produced_through, h.through),
      last_offset = coalesce(h.last_offset, f.last_offset), last_sub = coalesce(h.last_sub, f.last_sub),
      updated_at = now()
  WHERE f.log_id = h.log_id AND f.partition = h.partition AND f.next_offset = h."from"
    AND f.owner IS NOT DISTINCT FROM h.owner;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'the fence of partition % does not stand at offset %, or is in other hands', h.partition, h."from"
      USING ERRCODE = 'HR001';
  END IF;

  IF cardinality(p_check_ids) > 0 THEN
    WITH locked AS (
      SELECT p.id, p.version, p.deleted_at FROM person p
      WHERE p.id = ANY (p_check_ids) ORDER BY p.id FOR NO KEY UPDATE
    )
    SELECT count(*) INTO v_count
    FROM locked l
    JOIN unnest(p_check_ids, p_check_versions, p_check_dead) AS c(id, version, dead)
      ON c.id = l.id AND c.version = l.version AND c.dead = (l.deleted_at IS NOT NULL);
    PERFORM demand_rows('persons', v_count, cardinality(p_check_ids));
  END IF;

  IF p_inserts IS NOT NULL THEN
    INSERT INTO person (team_id, uuid, properties, properties_bytes, property_times, created_at, is_identified, version)
    SELECT r.t, r.u, r.p::jsonb, coalesce(r.b, octet_length(r.p::jsonb::text)), nullif(r.k, '{}'), to_timestamp(r.c / 1000.0), r.f, r.v
    FROM ROWS FROM (
      jsonb_to_recordset(p_inserts) AS (t integer, u uuid, v bigint, b integer, c float8, f boolean, k jsonb),
      string_to_table(p_inserted, E'\n')
    ) AS r(t, u, v, b, c, f, k, p)
    ORDER BY r.t, r.u
    ON CONFLICT (team_id, uuid) DO NOTHING;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    PERFORM demand_rows('new persons', v_count, jsonb_array_length(p_inserts));
  END IF;

  IF p_updates IS NOT NULL THEN
    UPDATE person p
    SET properties = coalesce(nullif(r.p, '')::jsonb, p.properties),
      -- Null: a text of one empty line is split into none.
      properties_bytes = CASE WHEN coalesce(r.p, '') = '' THEN p.properties_bytes
        ELSE coalesce(r.b, octet_length(r.p::jsonb::text)) END,
      property_times = CASE WHEN r.k IS NULL THEN p.property_times ELSE nullif(r.k, '{}') END,
      version = r.v, is_identified = r.f, created_at = to_timestamp(r.c / 1000.0),
      deleted_at = NULL, merged_into = NULL
    FROM ROWS FROM (
      jsonb_to_recordset(p_updates) AS (i bigint, v bigint, b integer, c float8, f boolean, k jsonb),
      string_to_table(p_updated, E'\n')
    ) AS r(i, v, b, c, f, k, p)
    WHERE p.id = r.i;
  END IF;

  FOR m IN
    SELECT l.id AS loser, k.id AS into_id, x.id AS home, x.uuid AS home_uuid, r.t, r.v, r.n
    FROM jsonb_to_recordset(p_changes -> 'merges') AS r(t integer, l uuid, k uuid, h uuid, v bigint, n bigint)
    JOIN person l ON l.team_id = r.t AND l.uuid = r.l
    JOIN person k ON k.team_id = r.t AND k.uuid = r.k
    JOIN person x ON x.team_id = r.t AND x.uuid = r.h
  LOOP
    UPDATE person
    SET properties = '{}', properties_bytes = 2, property_times = NULL, version = m.v, deleted_at = now(),
      merged_into = m.into_id
    WHERE id = m.loser;
    PERFORM FROM person_distinct_id WHERE team_id = m.t AND person_id = m.loser OFFSET p_move_max LIMIT 1;
    IF FOUND THEN
      INSERT INTO pending_move (person_id, team_id) VALUES (m.loser, m.t) ON CONFLICT (person_id) DO NOTHING;
      CONTINUE;
    END IF;
    WITH moved AS (
      UPDATE person_distinct_id SET person_id = m.home, version = greatest(version + 1, m.n)
      WHERE team_id = m.t AND person_id = m.loser
      RETURNING distinct_id, version
    )
    SELECT jsonb_agg(jsonb_build_array(m.t, distinct_id, m.home_uuid, version)) INTO v_some FROM moved;
    v_moved := v_moved || coalesce(v_some, '[]');
  END LOOP;

  IF p_changes ? 'mappings' THEN
    INSERT INTO person_distinct_id (team_id, distinct_id, person_id, version)
    SELECT r.t, r.d, p.id, r.v
    FROM jsonb_to_recordset(p_changes -> 'mappings') AS r(t integer, d text, u uuid, v bigint, e bigint)
    JOIN person p ON p.team_id = r.t AND p.uuid = r.u
    WHERE r.e IS NULL
    ORDER BY r.t, r.d COLLATE "C"
    ON CONFLICT (team_id, distinct_id) DO NOTHING;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    IF v_count < jsonb_array_length(p_changes -> 'mappings') THEN
      DECLARE v_updated bigint;
      BEGIN
        UPDATE person_distinct_id d SET person_id = p.id, version = r.v
        FROM jsonb_to_recordset(p_changes -> 'mappings') AS r(t integer, d text, u uuid, v bigint, e bigint)
        JOIN person p ON p.team_id = r.t AND p.uuid = r.u
        WHERE r.e IS NOT NULL AND d.team_id = r.t AND d.distinct_id = r.d AND d.version = r.e;
        GET DIAGNOSTICS v_updated = ROW_COUNT;
        PERFORM demand_rows('mappings', v_count + v_updated, jsonb_array_length(p_changes -> 'mappings'));
      END;
    END IF;
  END IF;

  IF p_changes ? 'types' THEN
    INSERT INTO group_type (team_id, group_type, type_index)
    SELECT r.t, r.g, r.i FROM jsonb_to_recordset(p_changes -> 'types') AS r(t integer, g text, i smallint)
    ORDER BY r.t, r.g COLLATE "C"
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    PERFORM demand_rows('group types', v_count, jsonb_array_length(p_changes -> 'types'));
  END IF;

  IF p_changes ? 'groups' THEN
    PERFORM FROM group_state g
    JOIN jsonb_to_recordset(p_changes -> 'groups') AS r(t integer, i smallint, k text, e bigint)
      ON g.team_id = r.t AND g.type_index = r.i AND g.group_key = r.k AND r.e IS NOT NULL
    ORDER BY g.team_id, g.type_index, g.group_key COLLATE "C" FOR NO KEY UPDATE OF g;
    WITH wanted AS (
      SELECT * FROM jsonb_to_recordset(p_changes -> 'groups')
        AS r(t integer, i smallint, k text, v bigint, p jsonb, c float8, e bigint)
    ), updated AS (
      UPDATE group_state g SET properties = r.p, version = r.v FROM wanted r
      WHERE r.e IS NOT NULL AND g.team_id = r.t AND g.type_index = r.i AND g.group_key = r.k AND g.version = r.e
      RETURNING 1
    ), inserted AS (
      INSERT INTO group_state (team_id, type_index, group_key, properties, created_at, version)
      SELECT r.t, r.i, r.k, r.p, to_timestamp(r.c / 1000.0), r.v FROM wanted r
      WHERE r.e IS NULL ORDER BY r.t, r.i, r.k COLLATE "C"
      ON CONFLICT DO NOTHING
      RETURNING 1
    )
    SELECT (SELECT count(*) FROM updated) + (SELECT count(*) FROM inserted) INTO v_count;
    PERFORM demand_rows('groups', v_count, jsonb_array_length(p_changes -> 'groups'));
  END IF;

  UPDATE receipt r SET outbox = NULL
  WHERE r.log_id = h.log_id AND r.partition = h.partition AND r.outbox IS NOT NULL
    AND r.from_offset < h."from" AND r.to_offset <= h.through;

  IF jsonb_array_length(v_moved) > 0 THEN
    h.outbox := jsonb_set(h.outbox, '{mappings}', (h.outbox -> 'mappings') || (
      SELECT jsonb_agg(jsonb_build_array(e -> 0, e -> 1)) FROM jsonb_array_elements(v_moved) e));
  END IF;
  INSERT INTO receipt (log_id, partition, from_offset, to_offset, checksum, outcomes, stored, duplicate, dropped,
    dead_lettered, stored_rows, hash_sum, prev_offset, prev_sub, config_version, outbox)
  VALUES (h.log_id, h.partition, h."from", h."to", h.checksum, p_outcomes, h.stored, h.duplicate, h.dropped,
    h.dead_lettered, h.stored_rows, h.hash_sum, h.prev_offset, h.prev_sub, h.config_version, h.outbox)
  ON CONFLICT DO NOTHING;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'partition % has a receipt from offset % already', h.partition, h."from" USING ERRCODE = 'HR001';
  END IF;
  RETURN v_moved;
END $$;
