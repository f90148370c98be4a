/**
 * What must hold of each verb, wherever it is killed. Squash: what a query says of each person is the same before, at every
 * stop and afterwards, and an override that came meanwhile stays. A deleted person: nothing of it is left, and whoever comes
 * back is somebody new. A deleted project: nothing of it is left, and its token is nobody's. Each sends first what it is
 * about, and gives what is to be done then; it may be run again in one product, under another `round`. Afterwards the audit
 * is exact and there is nothing to repair (`proveExact`).
 */
import { expect } from 'bun:test'
import { FAILPOINTS } from '../../../src/platform/index.ts'
import { waitFor } from '../../support/wait-for.ts'
import type { RowsRig } from './rig.ts'

/** In the order in which they are passed: a verb that goes on does not die at one that lies behind it. */
const verbs = Object.keys(FAILPOINTS.verbs)
const ofAll = verbs.filter((point) => point.startsWith('deletion_') || point.startsWith('erasure_'))

export const SQUASH_POINTS = verbs.filter((point) => point.startsWith('squash_'))
export const PERSON_POINTS = ofAll
export const PROJECT_POINTS = verbs.filter((point) => ofAll.includes(point) || point.startsWith('project_'))

const OLD = new Date(Date.now() - 40 * 86_400_000).toISOString()
const PERSONS = 4
const REFUSED_WITHIN_MS = 10_000

export const VERBS: readonly Verb[] = [
  { rule: 'overrides go, and nobody sees a difference', points: SQUASH_POINTS, prepare: squash },
  { rule: 'a person goes, and comes back as somebody new', points: PERSON_POINTS, prepare: deletePerson },
  { rule: "a project goes, and its token is nobody's", points: PROJECT_POINTS, prepare: deleteProject },
]

type Verb = {
  rule: string
  points: readonly string[]
  prepare: (rig: RowsRig, round: number) => Promise<KilledAt>
}

/** Side by side: it is mostly waiting. */
export function prepare(rig: RowsRig, round: number): Promise<[KilledAt, KilledAt, KilledAt]> {
  return Promise.all([squash(rig, round), deletePerson(rig, round), deleteProject(rig, round)])
}

/** Kills the verb at each of some failpoints, in this order, and then lets it end. */
type KilledAt = (points: readonly string[]) => Promise<void>

async function squash(rig: RowsRig, round: number): Promise<KilledAt> {
  const name = (who: string) => `s${round}-${who}`
  const numbers = Array.from({ length: PERSONS }, (_, n) => n)
  const mine = `event = '${name('before')}'`
  // What is done about person 0 comes between.
  const resolved = () =>
    rig.product.sql(
      `SELECT distinct_id, toString(person_id) AS person, count() AS n FROM events_resolved
       WHERE ${mine} AND NOT endsWith(distinct_id, '-0') GROUP BY distinct_id, person ORDER BY distinct_id, person`,
    )
  await rig.send(
    ...numbers.flatMap((n) => [
      { event: name('before'), distinct_id: name(`visitor-${n}`), timestamp: OLD },
      { event: name('before'), distinct_id: name(`visitor-${n}`) },
      { event: name('before'), distinct_id: name(`member-${n}`) },
    ]),
    { event: name('before'), distinct_id: name('chief') },
  )
  await rig.untilCount('events', 'events', mine, 3 * PERSONS + 1)
  await rig.send(
    ...numbers.map((n) => ({
      event: '$identify',
      distinct_id: name(`member-${n}`),
      properties: { $anon_distinct_id: name(`visitor-${n}`) },
    })),
  )
  const overrides = 'person_distinct_id_overrides FINAL'
  const visitors = `startsWith(distinct_id, '${name('visitor-')}')`
  await rig.untilCount('overrides', overrides, visitors, PERSONS)
  const before = await resolved()
  const under = async (who: string) =>
    (
      await rig.one<{ person: string }>(
        `SELECT DISTINCT toString(person_id) AS person FROM events_resolved WHERE distinct_id = '${name(who)}'`,
      )
    ).person

  return async (points) => {
    const preview = JSON.parse(await rig.run(0, 'squash', '--older-than', '0s', '--dry-run', '--json'))
    expect(preview.overrides).toBeGreaterThanOrEqual(PERSONS)
    for (const [i, point] of points.entries()) {
      await rig.killedAt(point, ['squash', '--older-than', '0s'])
      expect(await resolved()).toEqual(before)
      // What a repair brings back now says what it said before it was squashed.
      if (point === 'squash_written') await loseAndRepair(rig, name('visitor-2'))
      // A newer override of an id that is in the snapshot, and one of an id that is not.
      if (i === 0)
        await rig.send({
          event: '$merge_dangerously',
          distinct_id: name('chief'),
          properties: { alias: name('member-0') },
        })
      await rig.send(
        { event: 'meanwhile', distinct_id: name('visitor-1') },
        { event: 'meanwhile', distinct_id: name(`late-${point}`) },
        {
          event: '$identify',
          distinct_id: name('member-1'),
          properties: { $anon_distinct_id: name(`late-${point}`) },
        },
      )
    }
    const done = JSON.parse(await rig.run(0, 'squash', '--older-than', '0s', '--json'))
    expect(done.applied).toBe(true)
    expect(done.overrides).toBeGreaterThanOrEqual(PERSONS)
    expect(await resolved()).toEqual(before)
    await rig.untilCount(
      'newer overrides',
      overrides,
      `startsWith(distinct_id, '${name('late-')}')`,
      points.length,
    )
    // What moved once more has its newer override, whoever squashed the older one.
    await rig.untilCount('the newer override of a squashed id', overrides, visitors, 1)
    expect(await under('visitor-0')).toBe(await under('chief'))
    expect(await under('member-0')).toBe(await under('chief'))
    for (const point of points) expect(await under(`late-${point}`)).toBe(await under('member-1'))
  }
}

async function loseAndRepair(rig: RowsRig, id: string): Promise<void> {
  await rig.product.sql(`ALTER TABLE events DELETE WHERE distinct_id = '${id}' SETTINGS mutations_sync = 2`)
  await rig.run(0, 'repair', 'rows', '--yes')
}

/** Rows that a repair brings back as they were before a squash come under their right person. */
export async function repairSquashed(rig: RowsRig, round: number): Promise<void> {
  const id = `s${round}-visitor-3`
  const persons = () =>
    rig.product.sql(
      `SELECT toString(person_id) AS person, count() AS n FROM events_resolved WHERE distinct_id = '${id}' GROUP BY person`,
    )
  const before = await persons()
  await loseAndRepair(rig, id)
  expect(await persons()).toEqual(before)
  expect(await rig.countOf('person_distinct_id_overrides', `distinct_id = '${id}'`)).toBe(1)
}

async function deletePerson(rig: RowsRig, round: number): Promise<KilledAt> {
  const anna = `anna-${round}@example.com`
  const [first, second, phone] = [`anon-1-${round}`, `anon-2-${round}`, `phone-${round}`]
  const ids = `distinct_id IN ('${anna}', '${first}', '${second}', '${phone}')`
  await rig.send(
    { event: 'seen', distinct_id: first, timestamp: OLD },
    { event: 'seen', distinct_id: second },
    { event: 'seen', distinct_id: anna, properties: { $set: { email: anna } } },
  )
  await rig.untilCount('three persons', 'events', ids, 3)
  await rig.send(
    { event: '$identify', distinct_id: anna, properties: { $anon_distinct_id: first } },
    { event: '$identify', distinct_id: anna, properties: { $anon_distinct_id: second } },
    { event: '$create_alias', distinct_id: anna, properties: { alias: phone } },
    { event: 'personless', distinct_id: phone, properties: { $process_person_profile: false } },
    // A warning, and an outcome, that name her.
    { event: '$identify', distinct_id: anna, properties: { $anon_distinct_id: 'null' } },
  )
  const warnings = `position(details, '${anna}') > 0`
  await rig.untilCount('her events', 'events', ids, 8)
  await rig.untilCount('her overrides', 'person_distinct_id_overrides FINAL', ids, 3)
  await rig.untilCount('her warning', 'ingestion_warnings', warnings, 1)
  const { id } = await rig.one<{ id: string }>(
    `SELECT DISTINCT person_id AS id FROM events_resolved WHERE distinct_id = '${anna}'`,
  )
  expect(await rig.countOf('events_resolved', `person_id = '${id}'`)).toBe(8)

  const args = ['person', 'delete', id, '--yes', '--why', 'asked for']
  return async (points) => {
    const preview = ['person', 'delete', '--distinct-id', phone, '--dry-run', '--json']
    expect(JSON.parse(await rig.run(1, ...preview))).toMatchObject({
      applied: false,
      persons: 3,
      distinctIds: 4,
      rows: { events: 8, ingestion_warnings: 1 },
    })
    for (const point of points) await rig.killedAt(point, args)
    // Whoever asks again is told of it, and a list of what is open ends with 1.
    expect(JSON.parse(await rig.run(1, 'person', 'delete', id, '--dry-run', '--json'))).toMatchObject({
      open: { state: expect.not.stringContaining('done'), why: 'asked for' },
    })
    expect(await rig.run(1, 'person', 'deletions')).toContain('asked for')
    // Back under two of her ids before the deletion is over; what she sends before she is taken out goes with the rest.
    const returns = points.some((point) => point !== 'deletion_asked')
    const back = `event = 'back-${round}'`
    if (returns) await comeBack()
    // With 1 it says that the order was given before, and what came since then stays.
    const done = JSON.parse(await rig.run(returns ? 1 : 0, ...args, '--json'))
    expect(done).toMatchObject({
      state: 'done',
      resumed: returns,
      counts: { persons: 3, distinctIds: 4, events: 8, ingestion_warnings: 1 },
    })
    expect(await rig.run(0, 'person', 'deletions')).not.toContain(anna)
    if (!returns) await comeBack()

    await rig.untilCount('her return', 'events', back, 2)
    expect(await rig.countOf('events', `${ids} AND NOT (${back})`)).toBe(0)
    expect(await rig.countOf('ingestion_warnings', warnings)).toBe(0)
    expect(await rig.countOf('person', `position(properties, '${anna}') > 0`)).toBe(0)
    // Two persons now, since nothing joins these ids any more; each visible at once.
    await rig.untilCount('her new person', 'persons_current', `properties LIKE '%visits-${round}"%'`, 1)
    expect(await rig.countOf('events_resolved', `distinct_id = '${anna}' AND person_id = '${id}'`)).toBe(1)
    expect(
      await rig.countOf(
        'events_current',
        `${back} AND distinct_id = '${second}' AND person_id != '${id}' AND current_person_properties != ''`,
      ),
    ).toBe(1)
  }

  async function comeBack(): Promise<void> {
    await rig.send({
      event: `back-${round}`,
      distinct_id: anna,
      properties: { $set: { [`visits-${round}`]: 1 } },
    })
    await rig.send({ event: `back-${round}`, distinct_id: second })
  }
}

const TABLES = [
  'events',
  'outcomes',
  'dead_letters',
  'ingestion_warnings',
  'person',
  'person_distinct_id_overrides',
  'groups',
]

async function deleteProject(rig: RowsRig, round: number): Promise<KilledAt> {
  const name = `shop-${round}`
  const token = `phc_${name}`
  const [project] = JSON.parse(await rig.run(0, 'project', 'create', name, '--token', token, '--json'))
  const ours = `team_id = ${project.team_id}`
  const seen = await rig.sendAs(
    token,
    { event: 'seen', distinct_id: 'a', timestamp: OLD },
    { event: 'seen', distinct_id: 'b', properties: { $set: { name: 'b' } } },
  )
  expect(seen).toBe(200)
  // Before they are joined: their ids are in two partitions.
  await rig.untilCount('its persons', 'person FINAL', ours, 2)
  const sent = await rig.sendAs(
    token,
    { event: '$groupidentify', distinct_id: 'b', properties: { $group_type: 'firm', $group_key: 'f' } },
    { event: '$identify', distinct_id: 'b', properties: { $anon_distinct_id: 'a' } },
    { event: '$identify', distinct_id: 'b', properties: { $anon_distinct_id: 'null' } },
  )
  expect(sent).toBe(200)
  await rig.untilCount('its events', 'events', ours, 5)
  await rig.untilCount('its group', 'groups FINAL', ours, 1)
  await rig.untilCount('its warning', 'ingestion_warnings', ours, 1)

  const args = ['project', 'delete', name, '--yes', '--why', 'contract ended']
  return async (points) => {
    expect(JSON.parse(await rig.run(1, 'project', 'delete', name, '--dry-run', '--json'))).toMatchObject({
      applied: false,
      rows: { events: 5, group_state: 1 },
    })
    for (const point of points) {
      await rig.killedAt(point, args)
      // Until the door is shut, these are taken, and must go with the rest.
      await rig.sendAs(token, { event: 'meanwhile', distinct_id: 'b' })
    }
    const done = JSON.parse(await rig.run(0, ...args, '--json'))
    expect(done).toMatchObject({
      state: 'done',
      project: name,
      counts: { persons: 1, ingestion_warnings: 1 },
    })
    expect(done.counts.events).toBeGreaterThanOrEqual(5)
    expect(await rig.run(0, 'project', 'deletions')).toContain(name)
    await waitFor(
      'refusal of its token',
      async () => (await rig.sendAs(token, { event: 'after', distinct_id: 'b' })) === 401,
      REFUSED_WITHIN_MS,
    )
    for (const table of TABLES) expect([table, await rig.countOf(table, ours)]).toEqual([table, 0])
  }
}

/** The load stops here, so that what was acknowledged can be counted. Gives how many rows are on record as erased. */
export async function proveExact(rig: RowsRig): Promise<number> {
  await rig.stopLoad()
  await rig.untilCount('the load', 'events', `event = 'load'`, rig.acked)
  expect(await rig.run(0, 'repair', 'rows', '--yes')).toContain('nothing to repair')
  const { partitions } = JSON.parse(await rig.run(0, 'audit', '--json')) as {
    partitions: { erased: number }[]
  }
  return partitions.reduce((sum, { erased }) => sum + erased, 0)
}
