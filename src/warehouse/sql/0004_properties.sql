-- The properties that most questions ask for, as columns; `headrace property promote` adds others in the same way.
-- They share one expression, so that the JSON is parsed once for all of them.
-- @sharded sipHash64(distinct_id)
ALTER TABLE events ADD COLUMN IF NOT EXISTS `p_$browser` String MATERIALIZED tupleElement(JSONExtract(properties, 'Tuple(`$browser` String, `$device_type` String, `$host` String, `$os` String, `$pathname` String, `$referring_domain` String, `utm_campaign` String, `utm_medium` String, `utm_source` String)'), 1) COMMENT 'property string $browser' CODEC(ZSTD(1));

-- @sharded sipHash64(distinct_id)
ALTER TABLE events ADD COLUMN IF NOT EXISTS `p_$device_type` String MATERIALIZED tupleElement(JSONExtract(properties, 'Tuple(`$browser` String, `$device_type` String, `$host` String, `$os` String, `$pathname` String, `$referring_domain` String, `utm_campaign` String, `utm_medium` String, `utm_source` String)'), 2) COMMENT 'property string $device_type' CODEC(ZSTD(1));

-- @sharded sipHash64(distinct_id)
ALTER TABLE events ADD COLUMN IF NOT EXISTS `p_$host` String MATERIALIZED tupleElement(JSONExtract(properties, 'Tuple(`$browser` String, `$device_type` String, `$host` String, `$os` String, `$pathname` String, `$referring_domain` String, `utm_campaign` String, `utm_medium` String, `utm_source` String)'), 3) COMMENT 'property string $host' CODEC(ZSTD(1));

-- @sharded sipHash64(distinct_id)
ALTER TABLE events ADD COLUMN IF NOT EXISTS `p_$os` String MATERIALIZED tupleElement(JSONExtract(properties, 'Tuple(`$browser` String, `$device_type` String, `$host` String, `$os` String, `$pathname` String, `$referring_domain` String, `utm_campaign` String, `utm_medium` String, `utm_source` String)'), 4) COMMENT 'property string $os' CODEC(ZSTD(1));

-- @sharded sipHash64(distinct_id)
ALTER TABLE events ADD COLUMN IF NOT EXISTS `p_$pathname` String MATERIALIZED tupleElement(JSONExtract(properties, 'Tuple(`$browser` String, `$device_type` String, `$host` String, `$os` String, `$pathname` String, `$referring_domain` String, `utm_campaign` String, `utm_medium` String, `utm_source` String)'), 5) COMMENT 'property string $pathname' CODEC(ZSTD(1));

-- @sharded sipHash64(distinct_id)
ALTER TABLE events ADD COLUMN IF NOT EXISTS `p_$referring_domain` String MATERIALIZED tupleElement(JSONExtract(properties, 'Tuple(`$browser` String, `$device_type` String, `$host` String, `$os` String, `$pathname` String, `$referring_domain` String, `utm_campaign` String, `utm_medium` String, `utm_source` String)'), 6) COMMENT 'property string $referring_domain' CODEC(ZSTD(1));

-- @sharded sipHash64(distinct_id)
ALTER TABLE events ADD COLUMN IF NOT EXISTS `p_utm_campaign` String MATERIALIZED tupleElement(JSONExtract(properties, 'Tuple(`$browser` String, `$device_type` String, `$host` String, `$os` String, `$pathname` String, `$referring_domain` String, `utm_campaign` String, `utm_medium` String, `utm_source` String)'), 7) COMMENT 'property string utm_campaign' CODEC(ZSTD(1));

-- @sharded sipHash64(distinct_id)
ALTER TABLE events ADD COLUMN IF NOT EXISTS `p_utm_medium` String MATERIALIZED tupleElement(JSONExtract(properties, 'Tuple(`$browser` String, `$device_type` String, `$host` String, `$os` String, `$pathname` String, `$referring_domain` String, `utm_campaign` String, `utm_medium` String, `utm_source` String)'), 8) COMMENT 'property string utm_medium' CODEC(ZSTD(1));

-- @sharded sipHash64(distinct_id)
ALTER TABLE events ADD COLUMN IF NOT EXISTS `p_utm_source` String MATERIALIZED tupleElement(JSONExtract(properties, 'Tuple(`$browser` String, `$device_type` String, `$host` String, `$os` String, `$pathname` String, `$referring_domain` String, `utm_campaign` String, `utm_medium` String, `utm_source` String)'), 9) COMMENT 'property string utm_source' CODEC(ZSTD(1));
