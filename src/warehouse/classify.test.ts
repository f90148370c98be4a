import { describe, expect, test } from 'bun:test'
import { ClickHouseError } from '@clickhouse/client'
import { classify, type Doing, JUDGED } from './classify.ts'
import { warehouseError } from './errors.ts'

const codeOf = new Map([...JUDGED].map(([code, name]) => [name, code]))
const ch = (type: string, message = 'x') =>
  new ClickHouseError({ code: `${codeOf.get(type) ?? 1}`, message, type })
const refused = Object.assign(new Error('connect ECONNREFUSED 127.0.0.1:1'), { code: 'ECONNREFUSED' })

const RULES: Record<string, [Doing, unknown, string, string]> = {
  'no connection': ['insert', refused, 'HR_WAREHOUSE_UNAVAILABLE', 'retriable'],
  'a time-out of ours': [
    'insert',
    new DOMException('The operation timed out', 'TimeoutError'),
    'HR_WAREHOUSE_UNAVAILABLE',
    'retriable',
  ],
  'a proxy that answers HTML': [
    'query',
    new Error('<html>502</html>'),
    'HR_WAREHOUSE_UNAVAILABLE',
    'retriable',
  ],
  'too many parts: merges lag': [
    'insert',
    ch('TOO_MANY_PARTS', 'Too many parts (3000)'),
    'HR_WAREHOUSE_TOO_MANY_PARTS',
    'retriable',
  ],
  'too many months in one insert': [
    'insert',
    ch('TOO_MANY_PARTS', 'Too many partitions for single INSERT block (more than 100)'),
    'HR_WAREHOUSE_TOO_MANY_MONTHS',
    'rejected',
  ],
  'memory limit': ['insert', ch('MEMORY_LIMIT_EXCEEDED'), 'HR_WAREHOUSE_OUT_OF_MEMORY', 'retriable'],
  'read-only replica': ['insert', ch('TABLE_IS_READ_ONLY'), 'HR_WAREHOUSE_READ_ONLY', 'retriable'],
  'Keeper gone': ['insert', ch('KEEPER_EXCEPTION'), 'HR_WAREHOUSE_UNAVAILABLE', 'retriable'],
  'quorum not reached': ['insert', ch('TOO_FEW_LIVE_REPLICAS'), 'HR_WAREHOUSE_UNAVAILABLE', 'retriable'],
  'busy front': ['insert', ch('TOO_MANY_SIMULTANEOUS_QUERIES'), 'HR_WAREHOUSE_UNAVAILABLE', 'retriable'],
  'disk full': ['insert', ch('NOT_ENOUGH_SPACE'), 'HR_WAREHOUSE_DISK_FULL', 'retriable'],
  'wrong password': ['insert', ch('AUTHENTICATION_FAILED'), 'HR_WAREHOUSE_DENIED', 'retriable'],
  'table missing': ['insert', ch('UNKNOWN_TABLE'), 'HR_WAREHOUSE_SCHEMA_BEHIND', 'retriable'],
  'column missing on insert': [
    'insert',
    ch('NO_SUCH_COLUMN_IN_TABLE'),
    'HR_WAREHOUSE_SCHEMA_BEHIND',
    'retriable',
  ],
  'database missing': ['query', ch('UNKNOWN_DATABASE'), 'HR_WAREHOUSE_SCHEMA_BEHIND', 'retriable'],
  'rows cut short': ['insert', ch('CANNOT_READ_ALL_DATA'), 'HR_WAREHOUSE_REFUSED', 'rejected'],
  'a value in the message that looks like a name': [
    'insert',
    new ClickHouseError({ code: '469', message: 'Constraint violated: country = "x ', type: 'USA' }),
    'HR_WAREHOUSE_REFUSED',
    'rejected',
  ],
  'a value that is the name of another error': [
    'insert',
    new ClickHouseError({ code: '469', message: 'x', type: 'MEMORY_LIMIT_EXCEEDED' }),
    'HR_WAREHOUSE_REFUSED',
    'rejected',
  ],
  'broken constraint': ['insert', ch('VIOLATED_CONSTRAINT'), 'HR_WAREHOUSE_REFUSED', 'rejected'],
  'syntax error in a query': ['query', ch('SYNTAX_ERROR'), 'HR_WAREHOUSE_QUERY_REFUSED', 'rejected'],
  'unknown name in a query': ['query', ch('UNKNOWN_IDENTIFIER'), 'HR_WAREHOUSE_QUERY_REFUSED', 'rejected'],
  'syntax error in an insert is ours': ['insert', ch('SYNTAX_ERROR'), 'HR_WAREHOUSE_UNEXPECTED', 'fatal'],
  'a bug of the server in an insert': ['insert', ch('LOGICAL_ERROR'), 'HR_WAREHOUSE_UNEXPECTED', 'fatal'],
}

describe('classify', () => {
  for (const [rule, [doing, error, code, kind]] of Object.entries(RULES))
    test(rule, () => {
      const found = classify(error, doing, 'insert into events')
      expect(found).toMatchObject({ code, class: kind, cause: error })
      expect(found.message).toStartWith('insert into events: ')
    })

  test('an error of ours passes as it is', () => {
    const ours = warehouseError('HR_WAREHOUSE_TOO_LARGE', 'too large')
    expect(classify(ours, 'insert', 'x')).toBe(ours)
  })
})
