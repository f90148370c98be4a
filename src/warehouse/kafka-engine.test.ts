/** The statements for ClickHouse's Kafka engine: the real engine parses them, and what they do with a record is done. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { startTestWarehouse, type TestWarehouse } from '../../test/support/warehouse.ts'
import { EVENTS, ROW_TOPICS, TABLE_OF_TOPIC } from '../event/index.ts'
import { WAREHOUSE_VARIANTS, type WarehouseVariant } from './ddl.ts'
import { type KafkaEngineOptions, kafkaEngineDdl, queueName } from './kafka-engine.ts'
import { eventRow } from './rows.fixture.ts'

setDefaultTimeout(60_000)

let live: TestWarehouse
beforeAll(async () => {
  live = await startTestWarehouse()
})
afterAll(() => live.stop())

const BROKERS: KafkaEngineOptions['from'] = { brokers: 'k1:9092,k2:9092' }
const ddl = (variant: WarehouseVariant, from: KafkaEngineOptions['from'] = BROKERS) =>
  kafkaEngineDdl({ from, group: "it's ours", consumers: 4, variant })

describe('the engine parses every statement', () => {
  for (const variant of WAREHOUSE_VARIANTS)
    for (const from of [BROKERS, { collection: 'headrace_kafka' }])
      test(`${variant}, ${'brokers' in from ? 'brokers' : 'named collection'}`, async () => {
        for (const sql of ddl(variant, from)) {
          const [parsed] = await live.warehouse.query<{ sql: string }>(
            'SELECT formatQuery({sql:String}) AS sql',
            {
              sql,
            },
          )
          expect(parsed!.sql).toContain('IF NOT EXISTS')
          const ast = await live.warehouse.query<{ explain: string }>(`EXPLAIN AST ${sql}`)
          expect(ast[0]!.explain).toMatch(/^CreateQuery/)
        }
      })
})

test('each row topic has a queue and a view into its table; on a cluster all nodes have them', () => {
  const single = ddl('single').join('\n')
  for (const topic of ROW_TOPICS) {
    expect(single).toContain(`kafka_topic_list = '${topic}'`)
    expect(single).toContain(`${queueName(topic)}_rows TO ${TABLE_OF_TOPIC[topic].name} AS`)
  }
  expect(single).toContain("kafka_group_name = 'it\\'s ours'")
  expect(single).not.toContain('ON CLUSTER')
  for (const sql of ddl('sharded')) expect(sql).toContain("ON CLUSTER '{cluster}'")
  expect(ddl('sharded').join('\n')).not.toContain('_local')
})

/**
 * What the engine gives to the views is put into a table of the same columns instead; beside the record's own there are
 * the virtual ones, which are ordinary here.
 */
test('a record becomes its row, as load would insert it, and one that is no row is kept apart', async () => {
  const { warehouse } = live
  // A merge would remove the copies.
  await warehouse.command('SYSTEM STOP MERGES events')
  const statements = ddl('single')
  const VIRTUAL =
    '_topic String, _partition UInt64, _offset UInt64, `_headers.value` Array(String), _raw_message String, _error String'
  for (const sql of statements.filter((one) =>
    /kafka_events|TABLE IF NOT EXISTS kafka_engine_broken/.test(one),
  )) {
    await warehouse.command(
      sql.replace(/\n\)\nENGINE = Kafka\nSETTINGS [\s\S]*$/, `,\n${VIRTUAL})\nENGINE = Null`),
    )
  }
  const rows = [0, 1, 2].map((n) => EVENTS.encode(eventRow(n, { _partition: 9, _offset: n, _sub: n })))
  const columns = EVENTS.columns.map(({ name }) => (name.startsWith('_') ? `row${name}` : name))
  await warehouse.insertRows({
    table: { ...EVENTS, name: 'kafka_events', columns: columns.map((name) => ({ name })) as never },
    rows,
    token: 'kafka-engine',
  })
  await warehouse.insertRows({ table: EVENTS, rows, token: 'load' })
  const [found] = await warehouse.query<{ rows: number; kinds: number }>(
    `SELECT count() AS rows, uniqExact(tuple(* EXCEPT (inserted_at))) AS kinds FROM events WHERE _partition = 9`,
  )
  expect(found).toEqual({ rows: 6, kinds: 3 })
  await warehouse.command(
    `INSERT INTO kafka_events (_topic, _partition, _offset, \`_headers.value\`, _raw_message, _error)
     VALUES ('events', 3, 17, ['h'], 'no row', 'Cannot read all data')`,
  )
  const broken = await warehouse.query('SELECT * EXCEPT noticed_at FROM kafka_engine_broken')
  expect(broken).toEqual([
    {
      topic: 'events',
      topic_partition: 3,
      topic_offset: 17,
      headers: ['h'],
      value: 'no row',
      error: 'Cannot read all data',
    },
  ])
  expect(await warehouse.query('SELECT count() AS rows FROM events')).toEqual([{ rows: 6 }])
})
