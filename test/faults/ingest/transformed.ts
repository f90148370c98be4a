/**
 * Sets of transformations for the fault test, and what their rows have to show: each version writes its number and a
 * function of the event, by two steps of code and a built-in, so that a row of half a set, of two sets, or of another one than
 * its generation says is found out. Written without the code of src/transform.
 */
import { publishSet, type Sql } from '../../../src/catalog/index.ts'
import type { EventRow } from '../../../src/event/index.ts'

/** By generation: the version. */
const published = new Map<number, number>()

export async function publishNext(sql: Sql, teamId: number): Promise<void> {
  const next = published.size + 1
  const steps = [
    {
      name: 'one',
      source: `export default (event) => { event.properties.one = '${next}:' + event.uuid; return event }`,
    },
    { name: 'rename', use: 'rename-properties', options: { names: { one: 'two' } } },
    {
      name: 'three',
      source: `export default (event) => {
        event.properties.three = event.properties.two.split('').reverse().join('')
        event.properties.chance = Math.random()
        return event
      }`,
    },
  ]
  const { generation, version } = await publishSet(sql, teamId, { steps })
  published.set(generation, version)
}

/** True while nothing was published. */
export function isUntouched(): boolean {
  return published.size === 0
}

/** What is wrong with a row; undefined when nothing is. */
export function wrongAbout({ uuid, properties, _config_version: generation }: EventRow): string | undefined {
  const version = published.get(generation)
  if (version === undefined) return `generation ${generation} was never published`
  const { two, three, one, $transformed: told } = JSON.parse(properties)
  const expected = `${version}:${uuid}`
  if (one !== undefined || two !== expected || three !== [...expected].reverse().join(''))
    return `it says ${one}, ${two}, ${three} under version ${version}`
  const steps = { one: ['one'], rename: ['one', 'two'], three: ['chance', 'three'] }
  return Bun.deepEquals(told, { version, steps }) ? undefined : `it tells ${JSON.stringify(told)}`
}
