/**
 * The other way into ClickHouse: its own Kafka engine reads the row topics. In: brokers or a named collection, and the
 * SQL files. Out: statements for somebody else to run: per row topic a table of engine Kafka and a view that moves its
 * rows on, and one table for what cannot be parsed. Pure.
 *
 * The columns and their order are those of the records (`src/event/tables.ts`), their types those of the SQL files. A
 * record is one row in RowBinary without names, so the columns of the Kafka tables may be called otherwise: `_partition`
 * and `_offset` are names of the engine's own virtual columns, so ours begin with `row_` there.
 */
import { ROW_TOPICS, type RowTopic, TABLE_OF_TOPIC } from '../event/index.ts'
import type { MigrationFile, WarehouseVariant } from './ddl.ts'
import { describeSchema } from './describe.ts'
import { quoteName, quoteString } from './embedded/sql-text.ts'
import { migrationFiles } from './migrate.ts'

export type KafkaEngineOptions = {
  /** `host:port,host:port`, or the name of a named collection of the server that says how to reach them. */
  from: { brokers: string } | { collection: string }
  /** Consumer group; the same on all nodes. */
  group: string
  /** Consumers of `events` on each node. */
  consumers: number
  variant: WarehouseVariant
}

/** What `kafka_handle_error_mode = 'stream'` puts beside a record that is no row. */
const BROKEN = 'kafka_engine_broken'
const FLUSH_MS = 1_000
const BLOCK_ROWS = 500_000

/** The statements, in the order in which they are to be run: the views come last, since with them reading begins. */
export function kafkaEngineDdl(
  options: KafkaEngineOptions,
  files: readonly MigrationFile[] = migrationFiles(),
): string[] {
  const types = new Map(
    describeSchema(files).tables.map(({ name, columns }) => [
      name,
      new Map(columns.map((column) => [column.name, column.type])),
    ]),
  )
  const queues = ROW_TOPICS.map((topic) => queueOf(topic, types.get(TABLE_OF_TOPIC[topic].name)!, options))
  const views = ROW_TOPICS.flatMap((topic) => viewsOf(topic, options.variant))
  return [brokenOf(options.variant), ...queues, ...views]
}

/** The name of the Kafka table of a topic. */
export function queueName(topic: RowTopic): string {
  return `kafka_${topic}`
}

function queueOf(topic: RowTopic, types: ReadonlyMap<string, string>, options: KafkaEngineOptions): string {
  const { from, group, consumers, variant } = options
  const columns = TABLE_OF_TOPIC[topic].columns.map(
    ({ name }) => `    ${quoteName(queueColumn(name))} ${types.get(name)!}`,
  )
  const settings = [
    ...('brokers' in from ? [`kafka_broker_list = ${quoteString(from.brokers)}`] : []),
    `kafka_topic_list = ${quoteString(topic)}`,
    `kafka_group_name = ${quoteString(group)}`,
    `kafka_format = 'RowBinary'`,
    `kafka_num_consumers = ${topic === 'events' ? consumers : 1}`,
    `kafka_max_block_size = ${BLOCK_ROWS}`,
    `kafka_flush_interval_ms = ${FLUSH_MS}`,
    `kafka_handle_error_mode = 'stream'`,
  ]
  const engine = 'collection' in from ? `Kafka(${from.collection})` : 'Kafka'
  return `CREATE TABLE IF NOT EXISTS ${queueName(topic)}${onCluster(variant)}
(
${columns.join(',\n')}
)
ENGINE = ${engine}
SETTINGS ${settings.join(',\n    ')}`
}

/** A copy must come to the shard of the first one to be merged with it, so in a sharded cluster rows go by the table over all. */
function viewsOf(topic: RowTopic, variant: WarehouseVariant): string[] {
  const table = TABLE_OF_TOPIC[topic]
  const queue = queueName(topic)
  const columns = table.columns.map(({ name }) => {
    const column = queueColumn(name)
    return `    ${quoteName(column)}${column === name ? '' : ` AS ${quoteName(name)}`}`
  })
  const view = (name: string, to: string) =>
    `CREATE MATERIALIZED VIEW IF NOT EXISTS ${name}${onCluster(variant)} TO ${to} AS`
  return [
    `${view(`${queue}_broken`, BROKEN)}
SELECT
    _topic AS topic,
    _partition AS topic_partition,
    _offset AS topic_offset,
    _headers.value AS headers,
    _raw_message AS value,
    _error AS error
FROM ${queue}
WHERE _error != ''`,
    `${view(`${queue}_rows`, table.name)}
SELECT
${columns.join(',\n')}
FROM ${queue}
WHERE _error = ''`,
  ]
}

/** On a cluster each node has its own: what is in it was to be looked at, and is still in Kafka. */
function brokenOf(variant: WarehouseVariant): string {
  return `CREATE TABLE IF NOT EXISTS ${BROKEN}${onCluster(variant)}
(
    \`topic\` LowCardinality(String),
    \`topic_partition\` UInt64,
    \`topic_offset\` UInt64,
    \`headers\` Array(String),
    \`value\` String,
    \`error\` String,
    \`noticed_at\` DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = MergeTree
ORDER BY (topic, topic_partition, topic_offset)`
}

function queueColumn(name: string): string {
  return name.startsWith('_') ? `row${name}` : name
}

function onCluster(variant: WarehouseVariant): string {
  return variant === 'single' ? '' : ` ON CLUSTER '{cluster}'`
}
