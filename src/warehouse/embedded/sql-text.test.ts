import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { insertHead, queryShape, quoteName, quoteString, tokens } from './sql-text.ts'

type Head = { target: string; settings: string; format: string; data: string } | undefined
const HEADS: Record<string, [string, Head]> = {
  'format in the URL, data elsewhere': [
    'INSERT INTO t FORMAT RowBinary',
    { target: 'INSERT INTO t', settings: '', format: 'RowBinary', data: '' },
  ],
  'data on the next line': [
    'INSERT INTO t FORMAT JSONEachRow\n{"a":1}',
    { target: 'INSERT INTO t', settings: '', format: 'JSONEachRow', data: '{"a":1}' },
  ],
  'data on the same line': [
    'insert into t format CSV 1,2',
    { target: 'insert into t', settings: '', format: 'CSV', data: '1,2' },
  ],
  'only one line end belongs to the head': [
    'INSERT INTO t FORMAT TSV \r\n\n1',
    { target: 'INSERT INTO t', settings: '', format: 'TSV', data: '\n1' },
  ],
  'columns and settings': [
    'INSERT INTO db.t (a, `format`, "b")  SETTINGS x = 1, y = \'FORMAT z\' FORMAT CSV\n1',
    {
      target: 'INSERT INTO db.t (a, `format`, "b")',
      settings: "SETTINGS x = 1, y = 'FORMAT z'",
      format: 'CSV',
      data: '1',
    },
  ],
  values: [
    "INSERT INTO t (a) VALUES (1), ('x; SELECT')",
    { target: 'INSERT INTO t (a)', settings: '', format: 'Values', data: "(1), ('x; SELECT')" },
  ],
  'comments before and between': [
    '/* FORMAT */ INSERT -- SELECT\n INTO t FORMAT CSV\n1',
    { target: '/* FORMAT */ INSERT -- SELECT\n INTO t', settings: '', format: 'CSV', data: '1' },
  ],
  'a table function': [
    "INSERT INTO FUNCTION file('x', 'CSV', 'a UInt8') FORMAT CSV\n1",
    {
      target: "INSERT INTO FUNCTION file('x', 'CSV', 'a UInt8')",
      settings: '',
      format: 'CSV',
      data: '1',
    },
  ],
  'from a query: no data': ['INSERT INTO t SELECT 1 FORMAT CSV', undefined],
  'from a query with WITH: no data': ['INSERT INTO t WITH 1 AS x SELECT x', undefined],
  'from a file: no data of ours': ["INSERT INTO t FROM INFILE 'x' FORMAT CSV", undefined],
  'a query': ['SELECT 1 FORMAT CSV', undefined],
  'a head that has not ended': ['INSERT INTO t (a, b', undefined],
}

describe('insertHead', () => {
  for (const [rule, [sql, wanted]] of Object.entries(HEADS))
    test(rule, () => {
      const head = insertHead(sql)
      expect(head && { ...head, dataStart: undefined, data: sql.slice(head.dataStart) }).toEqual(
        wanted && { ...wanted, dataStart: undefined },
      )
    })

  test('never throws, and data lies within the text', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 80 }), (tail) => {
        const sql = `INSERT INTO t ${tail}`
        const head = insertHead(sql)
        if (head) expect(head.dataStart).toBeLessThanOrEqual(sql.length)
      }),
    )
  })
})

const SHAPES: Record<string, [string, Partial<ReturnType<typeof queryShape>>]> = {
  'the format at the end': ['SELECT 1 FORMAT JSON', { verb: 'SELECT', format: 'JSON', multiple: false }],
  'a format in brackets or quotes is none': ["SELECT ('FORMAT CSV') AS format", { format: undefined }],
  'settings may follow the format': ['SELECT 1 FORMAT CSV SETTINGS a = 1', { format: 'CSV' }],
  'a trailing semicolon is one statement': ['SELECT 1 ;\n-- done\n', { multiple: false, end: 9 }],
  'two statements': ['SELECT 1; SELECT 2', { multiple: true }],
  'a semicolon in a string': ["SELECT ';', $$;$$, `;`", { multiple: false }],
  'a session is changed by SET': ['set max_threads = 1', { changesSession: true }],
  'a session is changed by USE': ['USE system', { changesSession: true }],
  'a session is changed by a temporary table': [
    'CREATE TEMPORARY TABLE t (a Int8)',
    { changesSession: true },
  ],
  'a table is for all': ['CREATE TABLE t (a Int8)', { changesSession: false, verb: 'CREATE' }],
  'brackets first': ['(SELECT 1)', { verb: 'SELECT' }],
  'nothing but a comment': ['-- x', { verb: '' }],
}

describe('queryShape', () => {
  for (const [rule, [sql, wanted]] of Object.entries(SHAPES))
    test(rule, () => expect(queryShape(sql)).toMatchObject(wanted))
})

test('a quoted string or name is one token again, whatever it holds', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 40 }), (text) => {
      expect([...tokens(quoteString(text))]).toHaveLength(1)
      expect([...tokens(quoteName(text))]).toHaveLength(1)
    }),
  )
})
