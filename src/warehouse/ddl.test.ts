import { describe, expect, test } from 'bun:test'
import { HeadraceError } from '../event/index.ts'
import { SHARDED_TABLES } from './client.ts'
import { type MigrationFile, renderDdl, WAREHOUSE_VARIANTS } from './ddl.ts'
import { migrationFiles } from './migrate.ts'

const TABLE = (mark: string, engine = 'ReplacingMergeTree(version)'): MigrationFile => ({
  name: '0001_x.sql',
  text: `-- why it is there\n${mark}\nCREATE TABLE IF NOT EXISTS x\n(\n    a UInt8,\n    version UInt64\n)\nENGINE = ${engine}\nORDER BY a\nSETTINGS @dedup, fsync_after_insert = 1;\n`,
})
const COLUMNS = '(\n    a UInt8,\n    version UInt64\n)'
const REPLICATED =
  'replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800, fsync_after_insert = 1'

const CREATED = {
  'single: the file as it stands, with the window of tokens': [
    TABLE('-- @sharded a'),
    'single',
    [
      `CREATE TABLE IF NOT EXISTS x\n${COLUMNS}\nENGINE = ReplacingMergeTree(version)\nORDER BY a\nSETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1`,
    ],
  ],
  'replicated: one table, replicas per shard, both windows': [
    TABLE('-- @sharded a'),
    'replicated',
    [
      `CREATE TABLE IF NOT EXISTS x ON CLUSTER '{cluster}'\n${COLUMNS}\nENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/x', '{replica}', version)\nORDER BY a\nSETTINGS ${REPLICATED}`,
    ],
  ],
  'sharded: a local table per shard and a Distributed one under the known name': [
    TABLE('-- @sharded sipHash64(a)', 'ReplacingMergeTree'),
    'sharded',
    [
      `CREATE TABLE IF NOT EXISTS x_local ON CLUSTER '{cluster}'\n${COLUMNS}\nENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/x_local', '{replica}')\nORDER BY a\nSETTINGS ${REPLICATED}`,
      "CREATE TABLE IF NOT EXISTS x ON CLUSTER '{cluster}' AS x_local\nENGINE = Distributed('{cluster}', currentDatabase(), x_local, sipHash64(a))",
    ],
  ],
  'sharded: a state table is one set of replicas over all shards': [
    TABLE('-- @state'),
    'sharded',
    [
      `CREATE TABLE IF NOT EXISTS x ON CLUSTER '{cluster}'\n${COLUMNS}\nENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/all/{database}/x', '{shard}-{replica}', version)\nORDER BY a\nSETTINGS ${REPLICATED}`,
    ],
  ],
} as const

describe('renderDdl, tables', () => {
  for (const [rule, [file, variant, statements]] of Object.entries(CREATED))
    test(rule, () => expect(renderDdl(file, variant)).toEqual([...statements]))
})

const alter = (mark: string, what: string) => ({
  name: '0002_y.sql',
  text: `${mark}\nALTER TABLE x ADD ${what} IF NOT EXISTS b UInt8;\n`,
})
const ALTERED = {
  'single: as written': [
    alter('-- @state', 'COLUMN'),
    'single',
    ['ALTER TABLE x ADD COLUMN IF NOT EXISTS b UInt8'],
  ],
  'replicated: on the cluster': [
    alter('-- @sharded a', 'COLUMN'),
    'replicated',
    ["ALTER TABLE x ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS b UInt8"],
  ],
  'sharded: a column goes to the local table first, then to the one over it': [
    alter('-- @sharded a', 'COLUMN'),
    'sharded',
    [
      "ALTER TABLE x_local ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS b UInt8",
      "ALTER TABLE x ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS b UInt8",
    ],
  ],
  'sharded: an index goes to the local table only': [
    alter('-- @sharded a', 'INDEX'),
    'sharded',
    ["ALTER TABLE x_local ON CLUSTER '{cluster}' ADD INDEX IF NOT EXISTS b UInt8"],
  ],
} as const

describe('renderDdl, changes', () => {
  for (const [rule, [file, variant, statements]] of Object.entries(ALTERED))
    test(rule, () => expect(renderDdl(file, variant)).toEqual([...statements]))
})

const REFUSED = {
  'a table without IF NOT EXISTS':
    '-- @state\nCREATE TABLE x\n(\n a UInt8\n)\nENGINE = MergeTree\nORDER BY a',
  'a drop': '-- @state\nDROP TABLE x',
  'a column that is dropped': '-- @state\nALTER TABLE x DROP COLUMN IF EXISTS b',
  'a statement without a mark': 'CREATE TABLE IF NOT EXISTS x\n(\n a UInt8\n)',
  'a table without a window of tokens':
    '-- @state\nCREATE TABLE IF NOT EXISTS x\n(\n a UInt8\n)\nENGINE = MergeTree\nORDER BY a',
  'an engine that keeps no parts':
    '-- @state\nCREATE TABLE IF NOT EXISTS x\n(\n a UInt8\n)\nENGINE = Memory\nSETTINGS @dedup',
}

describe('renderDdl refuses', () => {
  for (const [rule, text] of Object.entries(REFUSED))
    test(rule, () => {
      for (const variant of WAREHOUSE_VARIANTS)
        expect(() => renderDdl({ name: '0009_z.sql', text }, variant)).toThrow(HeadraceError)
    })
})

describe('the files of this version', () => {
  for (const variant of WAREHOUSE_VARIANTS)
    test(`render for ${variant} with a window of tokens and a synced insert on every table`, () => {
      for (const file of migrationFiles())
        for (const statement of renderDdl(file, variant)) {
          expect(statement).not.toContain('@')
          if (statement.startsWith('ALTER TABLE ')) {
            if (variant !== 'single') expect(statement).toContain("ON CLUSTER '{cluster}'")
            continue
          }
          if (statement.includes('ENGINE = Distributed(')) continue
          expect(statement).toContain('deduplication_window = 10000')
          expect(statement).toContain('fsync_after_insert = 1')
          if (variant !== 'single') {
            expect(statement).toContain("ON CLUSTER '{cluster}'")
            expect(statement).toMatch(/ENGINE = Replicated\w+MergeTree\('\/clickhouse/)
            expect(statement).toContain('replicated_deduplication_window_seconds = 604800')
          }
        }
    })

  test('shard exactly the tables that the client writes to a local name', () => {
    const sharded = migrationFiles()
      .flatMap((file) => renderDdl(file, 'sharded'))
      .flatMap((statement) => /^CREATE TABLE IF NOT EXISTS (\w+)_local /.exec(statement)?.[1] ?? [])
    expect(sharded.sort()).toEqual([...SHARDED_TABLES].sort())
  })
})
