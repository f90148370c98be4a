/**
 * What the views and a promoted property cost on many events: time and CPU of the engine per question, next to the same
 * question asked of the tables. Rows are made in the engine: ten million events of 200,000 persons in one month, a
 * twentieth of them moved to another person since, 1,000 companies; properties of about 400 bytes.
 * The bottleneck is the engine: all cores.
 *
 * `bun bench/warehouse-views.ts [--rows 10000000] [--times 3]`
 */
import { parseArgs } from 'node:util'
import { addProperty, fillProperty, openWarehouse } from '../src/warehouse/index.ts'
import { startTestWarehouse } from '../test/support/warehouse.ts'
import { cpuUsOf, quantile, table } from './measure.ts'

const { values: options } = parseArgs({
  options: { rows: { type: 'string', default: '10000000' }, times: { type: 'string', default: '3' } },
})
const rows = Number(options.rows)
const times = Number(options.times)
const CHUNK_ROWS = 200_000
const QUERY_MS_MAX = 600_000
const LOG_ID = '01890000-0000-7000-8000-000000000001'

const PERSON_OF_EVENT = 'cityHash64(intDiv(number, 20)) % 200000'
const uuidOf = (kind: number, number: string) =>
  `toUUID(concat('0000000${kind}-0000-4000-8000-', leftPad(lower(hex(${number})), 12, '0')))`

const QUESTIONS: readonly { group: string; name: string; sql: string }[] = [
  ...['events', 'events FINAL', 'events_resolved', 'events_current'].map((from) => ({
    group: 'events by name',
    name: from,
    sql: `SELECT event, count() FROM ${from} WHERE team_id = 1 GROUP BY event`,
  })),
  ...['events', 'events_resolved', 'events_current'].map((from) => ({
    group: 'persons by day',
    name: from,
    sql: `SELECT toDate(timestamp) AS day, uniqExact(person_id) FROM ${from} WHERE team_id = 1 GROUP BY day`,
  })),
  ...['events', 'events_resolved'].map((from) => ({
    group: 'persons of one day and event',
    name: from,
    sql: `SELECT uniqExact(person_id) FROM ${from} WHERE team_id = 1 AND event = 'product viewed' AND timestamp >= '2026-11-10' AND timestamp < '2026-11-11'`,
  })),
  {
    group: 'events by plan of the person',
    name: 'events_resolved, at the time',
    sql: "SELECT JSONExtractString(person_properties, 'plan') AS plan, count() FROM events_resolved WHERE team_id = 1 GROUP BY plan",
  },
  {
    group: 'events by plan of the person',
    name: 'events_current, now',
    sql: "SELECT JSONExtractString(current_person_properties, 'plan') AS plan, count() FROM events_current WHERE team_id = 1 GROUP BY plan",
  },
  {
    group: 'events by name of the company',
    name: 'events_current, now',
    sql: "SELECT JSONExtractString(current_group0_properties, 'name') AS name, count() FROM events_current WHERE team_id = 1 GROUP BY name ORDER BY name LIMIT 10",
  },
  {
    group: 'persons by plan',
    name: 'persons_current',
    sql: "SELECT JSONExtractString(properties, 'plan') AS plan, count() FROM persons_current WHERE team_id = 1 GROUP BY plan",
  },
  {
    group: 'persons by plan',
    name: 'person with argMax',
    sql: "SELECT JSONExtractString(p, 'plan') AS plan, count() FROM (SELECT argMax(properties, version) AS p, argMax(is_deleted, version) AS d FROM person WHERE team_id = 1 GROUP BY team_id, id) WHERE d = 0 GROUP BY plan",
  },
  {
    group: 'companies',
    name: 'groups_current',
    sql: 'SELECT count(), max(version) FROM groups_current WHERE team_id = 1',
  },
  {
    group: 'events by a property',
    name: 'from the JSON',
    sql: "SELECT JSONExtractString(properties, 'plan') AS plan, count() FROM events WHERE team_id = 1 GROUP BY plan",
  },
  {
    group: 'events by a property',
    name: 'promoted',
    sql: 'SELECT p_plan AS plan, count() FROM events WHERE team_id = 1 GROUP BY plan',
  },
]

const engine = await startTestWarehouse()
const warehouse = openWarehouse({ url: engine.url, queryTimeoutMs: QUERY_MS_MAX })
try {
  for (let from = 0; from < rows; from += CHUNK_ROWS)
    await makeEvents(from, Math.min(CHUNK_ROWS, rows - from))
  await makeState()
  await addProperty(warehouse, { name: 'plan', type: 'string' })
  const began = performance.now()
  await fillProperty(warehouse, 'plan')
  const fillSeconds = (performance.now() - began) / 1000
  const [stored] = await warehouse.query<{ bytes: number; parts: number }>(
    "SELECT sum(bytes_on_disk) AS bytes, count() AS parts FROM system.parts WHERE active AND table = 'events'",
  )
  console.log(
    `${rows} events in ${stored!.parts} parts, ${Math.round(stored!.bytes / rows)} bytes each; the promoted property was stored in ${fillSeconds.toFixed(1)} s`,
  )
  const cells: string[][] = []
  for (const { group, name, sql } of QUESTIONS) {
    const took: number[] = []
    const cpu: number[] = []
    for (let i = 0; i < times; i++) {
      const before = cpuUsOf(engine.pid)
      const started = performance.now()
      await warehouse.query(sql)
      took.push(performance.now() - started)
      cpu.push((cpuUsOf(engine.pid) - before) / 1000)
    }
    cells.push([
      `${group}: ${name}`,
      quantile(took, 0.5).toFixed(0),
      quantile(cpu, 0.5).toFixed(0),
      (quantile(cpu, 0.5) / (rows / 1000)).toFixed(3),
    ])
  }
  console.log(table(['question', 'ms', 'CPU ms', 'CPU µs per event'], cells))
} finally {
  await warehouse.close()
  await engine.stop()
}

async function makeEvents(from: number, count: number): Promise<void> {
  await warehouse.command(`
    INSERT INTO events (uuid, event, properties, timestamp, team_id, distinct_id, created_at, person_id, person_properties, _log_id, _partition, _offset)
    WITH ${PERSON_OF_EVENT} AS person
    SELECT
      ${uuidOf(2, 'cityHash64(number) % 281474976710655')},
      ['$pageview', 'product viewed', 'signed up', 'order paid'][1 + cityHash64(number, 1) % 4],
      concat('{"$pathname":"/products/', toString(cityHash64(number, 2) % 500), '","$browser":"', ['Chrome', 'Firefox', 'Safari'][1 + person % 3],
        '","$session_id":"session-', toString(intDiv(number, 20)), '","plan":"', ['free', 'pro', 'team'][1 + cityHash64(number, 3) % 3],
        '","$group_0":"company-', toString(person % 1000), '","filler":"', repeat('abcdefgh', 30), toString(cityHash64(number, 4)), '"}'),
      toDateTime64('2026-11-01 00:00:00', 6, 'UTC') + toIntervalMillisecond(intDiv(number * 2400000, ${Math.max(1, Math.floor(rows / 1000))})),
      1,
      concat('user-', toString(person)),
      now64(6),
      ${uuidOf(1, 'person')},
      concat('{"plan":"', ['free', 'pro'][1 + person % 2], '"}'),
      '${LOG_ID}',
      number % 8,
      intDiv(number, 8)
    FROM numbers(${from}, ${count})`)
}

async function makeState(): Promise<void> {
  for (const version of [1, 2])
    await warehouse.command(`
      INSERT INTO person (id, created_at, team_id, properties, is_identified, is_deleted, version)
      SELECT ${uuidOf(1, 'number')}, now64(3), 1, concat('{"plan":"', ['free', 'pro', 'team'][1 + (number + ${version}) % 3], '","email":"someone-', toString(number), '@example.com"}'), 1, ${version} = 2 AND number % 50 = 0, ${version}
      FROM numbers(200000)`)
  await warehouse.command(`
    INSERT INTO person_distinct_id_overrides (team_id, distinct_id, person_id, is_deleted, version)
    SELECT 1, concat('user-', toString(number * 20)), ${uuidOf(1, 'number * 20 + 1')}, 0, 1 FROM numbers(10000)`)
  await warehouse.command(`
    INSERT INTO groups (group_type_index, group_key, created_at, team_id, group_properties, _version)
    SELECT 0, concat('company-', toString(number)), now64(3), 1, concat('{"name":"Company ', toString(number), '"}'), 1 FROM numbers(1000)`)
}
