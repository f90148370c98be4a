/** Events that are allowed but made to hurt: none may stop a partition, and each reaches its end state. */
import { expect, setDefaultTimeout, test } from 'bun:test'
import { INGESTION_WARNINGS, PERSON, TOPICS } from '../event/index.ts'
import { Pipeline } from './pipeline.fixture.ts'

setDefaultTimeout(60_000)

const pipeline = new Pipeline()

test('a person that is made larger and larger stays sendable, and so do its events', async () => {
  const set = (key: string) => JSON.stringify({ $set: { [key]: 'x'.repeat(450_000), [`small${key}`]: 1 } })
  await pipeline.capture(Array.from({ length: 40 }, (_, i) => ({ json: set(`k${i}`) })))
  expect(await pipeline.ingested(40)).toEqual({ stored: 40, dead: 0 })
  const persons = (await pipeline.rowsOf(TOPICS.persons)).map((row) => PERSON.decode(row))
  expect(Object.keys(JSON.parse(persons.at(-1)!.properties))).toContain('smallk39')
})

test('a number that Postgres writes out with 300 digits', async () => {
  const json = JSON.stringify({ $set: { n: new Array(60_000).fill(1e300) } })
  await pipeline.capture([{ json }])
  expect(await pipeline.ingested(1)).toEqual({ stored: 1, dead: 0 })
  // From here on the person is as Postgres spells it.
  await pipeline.capture([{ json: '{}' }, { event: '$set', json: '{"$set":{"b":1}}' }], 1)
  expect(await pipeline.ingested(3)).toEqual({ stored: 3, dead: 0 })
})

test('what a warning quotes is far longer than it was sent', async () => {
  const json = `{"properties":{"$process_person_profile":[${new Array(190_000).fill('1e20').join()}]}}`
  await pipeline.capture([{ json }])
  const { stored, dead } = await pipeline.ingested(1)
  expect(stored + dead).toBe(1)
  const warnings = (await pipeline.rowsOf(TOPICS.ingestionWarnings)).map((row) =>
    INGESTION_WARNINGS.decode(row),
  )
  expect(warnings.map(({ type }) => type)).toEqual(['invalid_process_person_profile'])
  expect(warnings[0]!.details.length).toBeLessThan(100_000)
})

test('an event of a hundred thousand groups costs a few warnings', async () => {
  const groups = Object.fromEntries(Array.from({ length: 100_000 }, (_, i) => [`g${i}`, 'k']))
  await pipeline.capture([{ json: JSON.stringify({ properties: { $groups: groups } }) }])
  expect(await pipeline.ingested(1)).toEqual({ stored: 1, dead: 0 })
  expect((await pipeline.rowsOf(TOPICS.ingestionWarnings)).length).toBeLessThan(50)
})
