/** A squash beside ingest and load: cut off after its snapshot, with what comes in between. */
import { expect, setDefaultTimeout, test } from 'bun:test'
import { deletePerson } from '../deletion/index.ts'
import { bench, benchForEachTest } from '../repair/repair.fixture.ts'
import { changeRows } from '../warehouse/index.ts'
import { forgetSnapshot, previewSnapshot, runSquash } from './index.ts'
import { makeDictionary, prepareSnapshot, takeSnapshot } from './snapshot.ts'

setDefaultTimeout(60_000)

const WAIT_MS = 20_000
/** All overrides are older, also those that come while a test runs. */
const LATER_MS = 60_000

benchForEachTest(async () => {
  await bench.emptyState()
  await bench.sql`TRUNCATE squash, deletion, deletion_target, erasures CASCADE`
})

type Sent = { event: string; distinctId: string; json?: string }

const merge = (distinctId: string, alias: string): Sent => ({
  event: '$merge_dangerously',
  distinctId,
  json: JSON.stringify({ properties: { alias } }),
})

/** With ingest and load at work, and one override. */
function testAtWork(rule: string, work: () => Promise<void>): void {
  test(rule, () =>
    bench.atWork(async () => {
      await settled(
        { event: 'e', distinctId: 'visitor' },
        { event: 'e', distinctId: 'member' },
        { event: 'e', distinctId: 'chief' },
        merge('member', 'visitor'),
      )
      await work()
    }),
  )
}

/** Sends them, and waits until they are in ClickHouse. */
async function settled(...events: Sent[]): Promise<void> {
  await bench.capture(events.map(({ json = '{}', ...event }) => ({ json, ...event })))
  await bench.settled()
}

const squash = () =>
  runSquash(
    { ...bench.deps, says: () => {}, access: { username: '', password: '' } },
    { beforeMs: Date.now() + LATER_MS, by: 'test', waitMs: WAIT_MS },
  )

/** Whose events queries see, and whose the stored rows alone say that they are. */
async function personsOf(distinctId: string): Promise<{ seen: string[]; stored: string[] }> {
  const ask = async (view: string) =>
    (
      await bench.deps.warehouse.query<{ person: string }>(
        `SELECT DISTINCT toString(person_id) AS person FROM ${view}
         WHERE _log_id = {id:UUID} AND distinct_id = {distinctId:String} ORDER BY person`,
        { id: bench.rawId, distinctId },
      )
    ).map(({ person }) => person)
  return { seen: await ask('events_resolved'), stored: await ask('events') }
}

async function overrides(): Promise<string[]> {
  const rows = await bench.deps.warehouse.query<{ id: string }>(
    'SELECT distinct_id AS id FROM person_distinct_id_overrides FINAL WHERE is_deleted = 0 ORDER BY id',
  )
  return rows.map(({ id }) => id)
}

/** It comes as far as its snapshot and the raw log's ends: a repair may have rows to send. */
async function cutOff(): Promise<void> {
  await bench.cutOffRepair()
  await expect(squash()).rejects.toMatchObject({
    code: 'HR_REPAIR_WAITS',
    message: expect.stringContaining('cut off'),
  })
  await bench.sql`DELETE FROM repair_attempt`
}

testAtWork(
  'stored events say what overrides said, which go; one that comes behind the snapshot stays, and wins',
  async () => {
    const [member] = (await personsOf('member')).stored
    expect((await personsOf('visitor')).seen).toEqual([member!])
    expect((await personsOf('visitor')).stored).not.toEqual([member!])
    expect(await previewSnapshot(bench.deps.warehouse, Date.now() + LATER_MS)).toMatchObject({ overrides: 1 })
    await cutOff()
    await settled(merge('chief', 'member'))
    const [chief] = (await personsOf('chief')).stored
    expect((await squash()).counts).toEqual({ events: 1, overrides: 1 })
    expect((await personsOf('visitor')).stored).toEqual([member!])
    expect(await overrides()).toEqual(['member', 'visitor'])
    for (const id of ['visitor', 'member', 'chief']) expect((await personsOf(id)).seen).toEqual([chief!])
    // The next one takes those, too.
    await squash()
    expect(await overrides()).toEqual([])
    for (const id of ['visitor', 'member'])
      expect(await personsOf(id)).toEqual({ seen: [chief!], stored: [chief!] })
  },
)

testAtWork(
  'what a squash that was killed left at work keeps nobody from changing rows; a server that lacks overrides of the snapshot is refused',
  async () => {
    const { warehouse } = bench.deps
    await prepareSnapshot(warehouse)
    const access = { username: '', password: '' }
    const noted = await takeSnapshot(warehouse, Date.now() + LATER_MS)
    await warehouse.command('TRUNCATE TABLE squash_snapshot')
    await expect(makeDictionary(warehouse, access, noted)).rejects.toMatchObject({
      code: 'HR_SQUASH_CHANGED',
    })
    const snapshot = await takeSnapshot(warehouse, Date.now() + LATER_MS)
    const dictionary = await makeDictionary(warehouse, access, snapshot)
    await warehouse.command('SYSTEM STOP MERGES events')
    await warehouse.command(
      `ALTER TABLE events UPDATE person_id = dictGet(${dictionary}, 'person_id', (team_id, distinct_id))
     WHERE dictHas(${dictionary}, (team_id, distinct_id)) SETTINGS mutations_sync = 0, allow_nondeterministic_mutations = 1`,
    )
    await forgetSnapshot(warehouse)
    await warehouse.command('SYSTEM START MERGES events')
    const where = `_log_id = toUUID('${bench.rawId}') AND distinct_id = 'chief'`
    await changeRows(warehouse, { table: 'events', what: 'DELETE', where }, () => {})
    expect(await personsOf('chief')).toEqual({ seen: [], stored: [] })
  },
)

testAtWork(
  'what a repair brings back between two runs as it was before is written again before its override goes',
  async () => {
    const [member] = (await personsOf('member')).stored
    await cutOff()
    // As if all of it had been written; a row of the row topics says what the events here say still.
    await bench.sql`UPDATE squash SET state = 'removing'`
    // While a repair may have rows to send, no override goes.
    await cutOff()
    expect(await overrides()).toEqual(['visitor'])
    expect((await squash()).counts).toMatchObject({ overrides: 1 })
    expect(await overrides()).toEqual([])
    expect(await personsOf('visitor')).toEqual({ seen: [member!], stored: [member!] })
  },
)

testAtWork(
  'a person that is deleted meanwhile stays deleted; the squash begins anew, with what is there then',
  async () => {
    const [member] = (await personsOf('member')).stored
    await cutOff()
    const order = { teamId: 1, subject: { distinctId: 'member' }, by: 'test', why: '' }
    const deps = { ...bench.deps, says: () => {} }
    await deletePerson(deps, order, WAIT_MS)
    expect(await bench.deps.warehouse.query('SELECT * FROM squash_snapshot')).toEqual([])
    await settled({ event: 'back', distinctId: 'visitor' }, { event: 'e', distinctId: 'late' })
    await settled(merge('chief', 'late'))
    const back = await personsOf('visitor')
    expect(back.seen).toHaveLength(1)
    expect(back.seen).not.toContain(member)
    expect(await overrides()).toContain('late')
    await squash()
    expect(await overrides()).toEqual([])
    expect((await personsOf('late')).stored).toEqual((await personsOf('chief')).stored)
    expect((await personsOf('visitor')).seen).toEqual(back.seen)
    expect(await personsOf('member')).toEqual({ seen: [], stored: [] })
    expect((await bench.audit()).partitions.flatMap(({ findings }) => findings)).toEqual([])
  },
)
