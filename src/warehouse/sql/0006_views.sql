-- What people query: right without FINAL, without deleted rows, whatever was merged, moved or sent again since.
--
-- FINAL reads the newest version of each key as it streams the sorted parts; argMax would hold every key in memory.
-- @state
CREATE OR REPLACE VIEW persons_current AS
SELECT
    team_id,
    id,
    created_at,
    properties,
    is_identified,
    version,
    last_seen_at
FROM person FINAL
WHERE is_deleted = 0;

-- @state
CREATE OR REPLACE VIEW groups_current AS
SELECT
    team_id,
    group_type_index,
    group_key,
    created_at,
    group_properties,
    _version AS version
FROM groups FINAL;

-- Events under the person that they belong to now. Properties of person and groups are those at the time of the event.
-- One join, with the few distinct_ids that changed their person.
-- @sharded sipHash64(distinct_id)
CREATE OR REPLACE VIEW events_resolved AS
SELECT
    e.uuid AS uuid,
    e.event AS event,
    e.properties AS properties,
    e.timestamp AS timestamp,
    e.team_id AS team_id,
    e.distinct_id AS distinct_id,
    e.elements_chain AS elements_chain,
    e.created_at AS created_at,
    if(o.moved = 1, o.person_id, e.person_id) AS person_id,
    e.person_id AS event_person_id,
    e.person_created_at AS person_created_at,
    e.person_properties AS person_properties,
    e.group0_properties AS group0_properties,
    e.group1_properties AS group1_properties,
    e.group2_properties AS group2_properties,
    e.group3_properties AS group3_properties,
    e.group4_properties AS group4_properties,
    e.group0_created_at AS group0_created_at,
    e.group1_created_at AS group1_created_at,
    e.group2_created_at AS group2_created_at,
    e.group3_created_at AS group3_created_at,
    e.group4_created_at AS group4_created_at,
    e.person_mode AS person_mode,
    e.historical_migration AS historical_migration,
    e._log_id AS _log_id,
    e._partition AS _partition,
    e._offset AS _offset,
    e._sub AS _sub,
    e._config_version AS _config_version,
    e._restamped AS _restamped,
    e.`$group_0` AS `$group_0`,
    e.`$group_1` AS `$group_1`,
    e.`$group_2` AS `$group_2`,
    e.`$group_3` AS `$group_3`,
    e.`$group_4` AS `$group_4`,
    e.`$window_id` AS `$window_id`,
    e.`$session_id` AS `$session_id`,
    @properties(e)
    e.inserted_at AS inserted_at,
    e._timestamp AS _timestamp
FROM @local(events) AS e
LEFT ANY JOIN
(
    SELECT team_id, distinct_id, person_id, 1 AS moved
    FROM person_distinct_id_overrides FINAL
    WHERE is_deleted = 0
) AS o ON o.team_id = e.team_id AND o.distinct_id = e.distinct_id
SETTINGS join_use_nulls = 0;

-- The same with what person and groups are now. Six joins more: for questions that ask for these columns.
-- A person that is not there (deleted, or of an event without person processing) and a group that is not there are
-- empty strings. No joined column is called like one of the events: such a one would get a prefix in `e.*`.
-- @sharded sipHash64(distinct_id)
CREATE OR REPLACE VIEW events_current AS
SELECT
    e.*,
    p.now_properties AS current_person_properties,
    p.now_created_at AS current_person_created_at,
    g0.g0_properties AS current_group0_properties,
    g1.g1_properties AS current_group1_properties,
    g2.g2_properties AS current_group2_properties,
    g3.g3_properties AS current_group3_properties,
    g4.g4_properties AS current_group4_properties
FROM @local(events_resolved) AS e
LEFT ANY JOIN
(
    SELECT team_id AS now_team, id AS now_id, properties AS now_properties, created_at AS now_created_at
    FROM persons_current
) AS p ON p.now_team = e.team_id AND p.now_id = e.person_id
LEFT ANY JOIN
(
    SELECT team_id AS g0_team, group_key AS g0_key, group_properties AS g0_properties
    FROM groups_current
    WHERE group_type_index = 0
) AS g0 ON g0.g0_team = e.team_id AND g0.g0_key = e.`$group_0`
LEFT ANY JOIN
(
    SELECT team_id AS g1_team, group_key AS g1_key, group_properties AS g1_properties
    FROM groups_current
    WHERE group_type_index = 1
) AS g1 ON g1.g1_team = e.team_id AND g1.g1_key = e.`$group_1`
LEFT ANY JOIN
(
    SELECT team_id AS g2_team, group_key AS g2_key, group_properties AS g2_properties
    FROM groups_current
    WHERE group_type_index = 2
) AS g2 ON g2.g2_team = e.team_id AND g2.g2_key = e.`$group_2`
LEFT ANY JOIN
(
    SELECT team_id AS g3_team, group_key AS g3_key, group_properties AS g3_properties
    FROM groups_current
    WHERE group_type_index = 3
) AS g3 ON g3.g3_team = e.team_id AND g3.g3_key = e.`$group_3`
LEFT ANY JOIN
(
    SELECT team_id AS g4_team, group_key AS g4_key, group_properties AS g4_properties
    FROM groups_current
    WHERE group_type_index = 4
) AS g4 ON g4.g4_team = e.team_id AND g4.g4_key = e.`$group_4`
SETTINGS join_use_nulls = 0;
