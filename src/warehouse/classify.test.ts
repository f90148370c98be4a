import { describe, expect, test } from 'bun:test'
import { ClickHouseError } from '@clickhouse/client'
import { classify, type Doing } from './classify.ts'
import { warehouseError } from './errors.ts'

const ch = (code: number, message = 'x', type = 'T') =>
  new ClickHouseError({ code: String(code), message, type })
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
    ch(252, 'Too many parts (3000)'),
    'HR_WAREHOUSE_UNAVAILABLE',
    'retriable',
  ],
  'too many months in one insert': [
    'insert',
    ch(252, 'Too many partitions for single INSERT block (more than 100)'),
    'HR_WAREHOUSE_TOO_MANY_MONTHS',
    'rejected',
  ],
  'memory limit': ['insert', ch(241), 'HR_WAREHOUSE_UNAVAILABLE', 'retriable'],
  'read-only replica': ['insert', ch(242), 'HR_WAREHOUSE_UNAVAILABLE', 'retriable'],
  'Keeper gone': ['insert', ch(999), 'HR_WAREHOUSE_UNAVAILABLE', 'retriable'],
  'quorum not reached': ['insert', ch(285), 'HR_WAREHOUSE_UNAVAILABLE', 'retriable'],
  'busy front': ['insert', ch(202), 'HR_WAREHOUSE_UNAVAILABLE', 'retriable'],
  'disk full': ['insert', ch(243), 'HR_WAREHOUSE_UNAVAILABLE', 'retriable'],
  'wrong password': ['insert', ch(516), 'HR_WAREHOUSE_DENIED', 'retriable'],
  'table missing': ['insert', ch(60), 'HR_WAREHOUSE_SCHEMA_BEHIND', 'retriable'],
  'column missing on insert': ['insert', ch(16), 'HR_WAREHOUSE_SCHEMA_BEHIND', 'retriable'],
  'database missing': ['query', ch(81), 'HR_WAREHOUSE_SCHEMA_BEHIND', 'retriable'],
  'rows cut short': ['insert', ch(33), 'HR_WAREHOUSE_REFUSED', 'rejected'],
  'broken constraint': ['insert', ch(469), 'HR_WAREHOUSE_REFUSED', 'rejected'],
  'syntax error in a query': ['query', ch(62), 'HR_WAREHOUSE_QUERY_REFUSED', 'rejected'],
  'unknown name in a query': ['query', ch(47), 'HR_WAREHOUSE_QUERY_REFUSED', 'rejected'],
  'syntax error in an insert is ours': ['insert', ch(62), 'HR_WAREHOUSE_UNEXPECTED', 'fatal'],
  'a bug of the server in an insert': ['insert', ch(49), 'HR_WAREHOUSE_UNEXPECTED', 'fatal'],
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
