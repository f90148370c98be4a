/** What a trace says that ingest made of an event. */
import { describe, expect, test } from 'bun:test'
import { plainHeader } from '../../test/support/raw-header.ts'
import { changesOf } from './changes.ts'

const HEADER = plainHeader({ token: 't', distinctId: 'd', event: 'e', uuid: '', timestampMs: 1 })
const ROW = { event: 'e', distinct_id: 'd', timestamp_ms: 1, properties: '{"a":1}' }

describe('what changed', () => {
  const rows: [rule: string, sent: string, row: Partial<typeof ROW>, changes: object | undefined][] = [
    ['nothing', '{"properties":{"a":1}}', {}, {}],
    ['added and removed', '{"properties":{"b":1}}', {}, { properties_added: 'a', properties_removed: 'b' }],
    ['another value', '{"properties":{"a":[2]}}', {}, { properties_changed: 'a' }],
    ['the same value, written otherwise', '{"properties":{ "a" : 1.0 }}', {}, {}],
    [
      '$set beside the properties',
      '{"$set":{"x":1},"properties":{"a":1}}',
      { properties: '{"a":1,"$set":{"x":1}}' },
      {},
    ],
    [
      'name and id',
      '{"properties":{"a":1}}',
      { event: 'f', distinct_id: 'g' },
      { event: 'was e', distinct_id: 'was d' },
    ],
    ['no properties at all', '{}', { properties: '{}' }, {}],
    ['unreadable', '[', {}, undefined],
    [
      'many',
      '{}',
      { properties: JSON.stringify(Object.fromEntries(Array.from({ length: 22 }, (_, i) => [`p${i}`, i]))) },
      { properties_added: expect.stringMatching(/^p0, .* and 2 more$/) },
    ],
  ]
  test.each(rows)('%s', (_, sent, row, changes) => {
    const found = changesOf(HEADER, Buffer.from(sent), { ...ROW, ...row })
    expect(found).toEqual(changes as Record<string, string>)
  })
})
