-- Cookieless visitors: one secret per calendar day, and what must be remembered of who came on it.

-- The key of the hash for a day, the same for all processes. Null once it was deleted: the row stays a while, so that a
-- process whose clock is behind cannot give the day a second key, under which everybody would be somebody else.
CREATE TABLE cookieless_salt (
  day          date PRIMARY KEY,
  salt         bytea CHECK (octet_length(salt) = 16),
  created_at   timestamptz NOT NULL DEFAULT now(),
  deleted_at   timestamptz,
  -- When the table's file was last written anew since: until then the bytes of the deleted key may still be in it.
  rewritten_at timestamptz,
  CHECK (salt IS NOT NULL OR deleted_at IS NOT NULL)
);

-- One row per visitor and day, in projects whose mode is stateful. Nothing in it can be led back to a person, and
-- without the day's salt no event can be led to it.
CREATE TABLE cookieless_visitor (
  day               date NOT NULL,
  team_id           integer NOT NULL,
  -- The hash of n = 0. A uuid is only its form: 16 bytes of fixed length.
  base_hash         uuid NOT NULL,
  -- How many persons this visitor was identified as; n of its next anonymous event.
  identifies        integer NOT NULL,
  -- The hash of n = identifies, of which the distinct id is made.
  current_hash      uuid NOT NULL,
  -- The session of n = identifies, and its last activity in epoch ms.
  session_id        uuid,
  active_ms         bigint,
  -- The session of n = identifies - 1: of the person that was identified last.
  before_session_id uuid,
  before_active_ms  bigint,
  version           integer NOT NULL,
  PRIMARY KEY (day, team_id, base_hash)
  -- Room on each page, so that an update, which changes no indexed column, stays on its page and off the index.
) WITH (fillfactor = 80);

-- Writes the visitors of a batch, in the statement and so in the transaction of apply_batch; its locks come after
-- those of apply_batch, in the order of the key. Raises HR002, which rolls the batch back, when one of them is not as
-- it was read.
--
-- p_visitors  [{d: day, t: team, h: base hash, n: identifies, c: current hash, s: session, a: active ms,
--               r: session before, b: active ms before, e: version as read, null when absent}]
CREATE FUNCTION apply_visitors(p_visitors jsonb) RETURNS void LANGUAGE plpgsql VOLATILE SET lock_timeout = '5s' AS $$
DECLARE
  v_count bigint;
BEGIN
  PERFORM FROM cookieless_visitor v
  JOIN jsonb_to_recordset(p_visitors) AS r(d date, t integer, h uuid, e integer)
    ON v.day = r.d AND v.team_id = r.t AND v.base_hash = r.h AND r.e IS NOT NULL
  ORDER BY v.day, v.team_id, v.base_hash FOR NO KEY UPDATE OF v;
  WITH wanted AS (
    SELECT * FROM jsonb_to_recordset(p_visitors)
      AS r(d date, t integer, h uuid, n integer, c uuid, s uuid, a bigint, r uuid, b bigint, e integer)
  ), updated AS (
    UPDATE cookieless_visitor v
    SET identifies = w.n, current_hash = w.c, session_id = w.s, active_ms = w.a, before_session_id = w.r,
      before_active_ms = w.b, version = v.version + 1
    FROM wanted w
    WHERE w.e IS NOT NULL AND v.day = w.d AND v.team_id = w.t AND v.base_hash = w.h AND v.version = w.e
    RETURNING 1
  ), inserted AS (
    INSERT INTO cookieless_visitor (day, team_id, base_hash, identifies, current_hash, session_id, active_ms,
      before_session_id, before_active_ms, version)
    SELECT w.d, w.t, w.h, w.n, w.c, w.s, w.a, w.r, w.b, 1 FROM wanted w
    WHERE w.e IS NULL ORDER BY w.d, w.t, w.h
    ON CONFLICT DO NOTHING
    RETURNING 1
  )
  SELECT (SELECT count(*) FROM updated) + (SELECT count(*) FROM inserted) INTO v_count;
  PERFORM demand_rows('cookieless visitors', v_count, jsonb_array_length(p_visitors));
END $$;

-- The distinct ids that the visitors of a batch have now, where it is not the one that is known without asking (that of
-- n = 0): so the persons of a batch can be read in the same query, before anybody knows n.
--
-- p_visitors  [{d: day, t: team, h: base hash}]
CREATE FUNCTION visitor_distinct_ids(p_visitors jsonb) RETURNS TABLE (team_id integer, distinct_id text)
LANGUAGE sql STABLE AS $$
  SELECT v.team_id, 'cookieless_' || rtrim(encode(uuid_send(v.current_hash), 'base64'), '=')
  FROM jsonb_to_recordset(p_visitors) AS r(d date, t integer, h uuid)
  JOIN cookieless_visitor v ON v.day = r.d AND v.team_id = r.t AND v.base_hash = r.h
  WHERE v.identifies > 0
$$;
