-- The properties that most questions ask for, as columns; `headrace property promote` adds others in the same way.
-- They share one expression with those of the first version, so that the JSON is parsed once for all of them.
-- @sharded sipHash64(distinct_id)
ALTER TABLE events ADD COLUMN IF NOT EXISTS `p_$browser` String MATERIALIZED tupleElement(JSONExtract(properties, 'Tuple(`$browser` String, `$group_0` String, `$group_1` String, `$group_2` String, `$group_3` String, `$group_4` String, `$os` String, `$pathname` String, `$referring_domain` String, `$session_id` String, `$window_id` String, `utm_source` String)'), 1) COMMENT 'property string $browser' CODEC(ZSTD(1));

-- @sharded sipHash64(distinct_id)
ALTER TABLE events ADD COLUMN IF NOT EXISTS `p_$os` String MATERIALIZED tupleElement(JSONExtract(properties, 'Tuple(`$browser` String, `$group_0` String, `$group_1` String, `$group_2` String, `$group_3` String, `$group_4` String, `$os` String, `$pathname` String, `$referring_domain` String, `$session_id` String, `$window_id` String, `utm_source` String)'), 7) COMMENT 'property string $os' CODEC(ZSTD(1));

-- @sharded sipHash64(distinct_id)
ALTER TABLE events ADD COLUMN IF NOT EXISTS `p_$pathname` String MATERIALIZED tupleElement(JSONExtract(properties, 'Tuple(`$browser` String, `$group_0` String, `$group_1` String, `$group_2` String, `$group_3` String, `$group_4` String, `$os` String, `$pathname` String, `$referring_domain` String, `$session_id` String, `$window_id` String, `utm_source` String)'), 8) COMMENT 'property string $pathname' CODEC(ZSTD(1));

-- @sharded sipHash64(distinct_id)
ALTER TABLE events ADD COLUMN IF NOT EXISTS `p_$referring_domain` String MATERIALIZED tupleElement(JSONExtract(properties, 'Tuple(`$browser` String, `$group_0` String, `$group_1` String, `$group_2` String, `$group_3` String, `$group_4` String, `$os` String, `$pathname` String, `$referring_domain` String, `$session_id` String, `$window_id` String, `utm_source` String)'), 9) COMMENT 'property string $referring_domain' CODEC(ZSTD(1));

-- @sharded sipHash64(distinct_id)
ALTER TABLE events ADD COLUMN IF NOT EXISTS `p_utm_source` String MATERIALIZED tupleElement(JSONExtract(properties, 'Tuple(`$browser` String, `$group_0` String, `$group_1` String, `$group_2` String, `$group_3` String, `$group_4` String, `$os` String, `$pathname` String, `$referring_domain` String, `$session_id` String, `$window_id` String, `utm_source` String)'), 12) COMMENT 'property string utm_source' CODEC(ZSTD(1));

-- @sharded sipHash64(distinct_id)
ALTER TABLE events MODIFY COLUMN `$group_0` MATERIALIZED tupleElement(JSONExtract(properties, 'Tuple(`$browser` String, `$group_0` String, `$group_1` String, `$group_2` String, `$group_3` String, `$group_4` String, `$os` String, `$pathname` String, `$referring_domain` String, `$session_id` String, `$window_id` String, `utm_source` String)'), 2);

-- @sharded sipHash64(distinct_id)
ALTER TABLE events MODIFY COLUMN `$group_1` MATERIALIZED tupleElement(JSONExtract(properties, 'Tuple(`$browser` String, `$group_0` String, `$group_1` String, `$group_2` String, `$group_3` String, `$group_4` String, `$os` String, `$pathname` String, `$referring_domain` String, `$session_id` String, `$window_id` String, `utm_source` String)'), 3);

-- @sharded sipHash64(distinct_id)
ALTER TABLE events MODIFY COLUMN `$group_2` MATERIALIZED tupleElement(JSONExtract(properties, 'Tuple(`$browser` String, `$group_0` String, `$group_1` String, `$group_2` String, `$group_3` String, `$group_4` String, `$os` String, `$pathname` String, `$referring_domain` String, `$session_id` String, `$window_id` String, `utm_source` String)'), 4);

-- @sharded sipHash64(distinct_id)
ALTER TABLE events MODIFY COLUMN `$group_3` MATERIALIZED tupleElement(JSONExtract(properties, 'Tuple(`$browser` String, `$group_0` String, `$group_1` String, `$group_2` String, `$group_3` String, `$group_4` String, `$os` String, `$pathname` String, `$referring_domain` String, `$session_id` String, `$window_id` String, `utm_source` String)'), 5);

-- @sharded sipHash64(distinct_id)
ALTER TABLE events MODIFY COLUMN `$group_4` MATERIALIZED tupleElement(JSONExtract(properties, 'Tuple(`$browser` String, `$group_0` String, `$group_1` String, `$group_2` String, `$group_3` String, `$group_4` String, `$os` String, `$pathname` String, `$referring_domain` String, `$session_id` String, `$window_id` String, `utm_source` String)'), 6);

-- @sharded sipHash64(distinct_id)
ALTER TABLE events MODIFY COLUMN `$session_id` MATERIALIZED tupleElement(JSONExtract(properties, 'Tuple(`$browser` String, `$group_0` String, `$group_1` String, `$group_2` String, `$group_3` String, `$group_4` String, `$os` String, `$pathname` String, `$referring_domain` String, `$session_id` String, `$window_id` String, `utm_source` String)'), 10);

-- @sharded sipHash64(distinct_id)
ALTER TABLE events MODIFY COLUMN `$window_id` MATERIALIZED tupleElement(JSONExtract(properties, 'Tuple(`$browser` String, `$group_0` String, `$group_1` String, `$group_2` String, `$group_3` String, `$group_4` String, `$os` String, `$pathname` String, `$referring_domain` String, `$session_id` String, `$window_id` String, `utm_source` String)'), 11);
