import { describe, expect, test } from 'bun:test'
import { HeadraceError } from '../event/index.ts'
import { SHARDED_TABLES } from './client.ts'
import { type MigrationFile, renderDdl, renderViews, WAREHOUSE_VARIANTS } from './ddl.ts'
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

const VIEW: MigrationFile = {
  name: '0003_v.sql',
  text: '-- why\n-- @sharded a\nCREATE OR REPLACE VIEW v AS\nSELECT\n    x.a AS a,\n    @properties(x)\n    x.b AS b\nFROM @local(x) AS x;\n\n-- @state\nCREATE OR REPLACE VIEW w AS\nSELECT a FROM y FINAL;\n',
}
const view = (name: string, from: string, columns = '') =>
  `CREATE OR REPLACE VIEW ${name} AS\nSELECT\n    x.a AS a,\n${columns}    x.b AS b\nFROM ${from} AS x`
const VIEWS = {
  'single: over the table, with the promoted properties': [
    'single',
    ['p_a', 'p_b`'],
    [
      view('v', 'x', '    x.`p_a` AS `p_a`,\n    x.`p_b\\`` AS `p_b\\``,\n'),
      'CREATE OR REPLACE VIEW w AS\nSELECT a FROM y FINAL',
    ],
  ],
  'replicated: on the cluster': [
    'replicated',
    [],
    [
      view("v ON CLUSTER '{cluster}'", 'x'),
      "CREATE OR REPLACE VIEW w ON CLUSTER '{cluster}' AS\nSELECT a FROM y FINAL",
    ],
  ],
  'sharded: a local view over the local table, and a Distributed one under the known name': [
    'sharded',
    [],
    [
      view("v_local ON CLUSTER '{cluster}'", 'x_local'),
      "CREATE OR REPLACE TABLE v ON CLUSTER '{cluster}' AS v_local\nENGINE = Distributed('{cluster}', currentDatabase(), v_local)",
      "CREATE OR REPLACE VIEW w ON CLUSTER '{cluster}' AS\nSELECT a FROM y FINAL",
    ],
  ],
} as const

describe('renderDdl, views', () => {
  for (const [rule, [variant, promoted, statements]] of Object.entries(VIEWS))
    test(rule, () => expect(renderDdl(VIEW, variant, promoted)).toEqual([...statements]))

  test('renderViews: the newest definition of each, and nothing but views', () => {
    const again = {
      name: '0004_again.sql',
      text: '-- @sharded a\nCREATE OR REPLACE VIEW v AS\nSELECT a FROM @local(x);\n',
    }
    expect(renderViews([TABLE('-- @state'), VIEW, again], 'single', [])).toEqual([
      'CREATE OR REPLACE VIEW w AS\nSELECT a FROM y FINAL',
      'CREATE OR REPLACE VIEW v AS\nSELECT a FROM x',
    ])
  })
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
        for (const statement of renderDdl(file, variant, ['p_x'])) {
          expect(statement).not.toContain('@')
          expect(statement.includes("ON CLUSTER '{cluster}'")).toBe(variant !== 'single')
          if (statement.includes('ENGINE = Distributed(') || !statement.startsWith('CREATE TABLE')) continue
          expect(statement).toContain('deduplication_window = 10000')
          expect(statement).toContain('fsync_after_insert = 1')
          if (variant !== 'single') {
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
