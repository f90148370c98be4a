/** What `repair gap` may call lost: only what no row speaks of, in whichever place the row is. */
import { expect, setDefaultTimeout, test } from 'bun:test'
import { ROW_TOPICS, TOPICS } from '../event/index.ts'
import { stretchesSince } from '../ingest/index.ts'
import { formatGaps, formatInspection, inspect, repairGaps, rewind } from './index.ts'
import { bench, benchForEachTest, type Captured, openBench } from './repair.fixture.ts'

setDefaultTimeout(60_000)

benchForEachTest()

const APPLY = { apply: true }
const plain = (count: number): Captured[] => Array.from({ length: count }, (_, n) => ({ json: `{"n":${n}}` }))

async function exactAudit() {
  const report = await bench.audit()
  expect(report.partitions.flatMap(({ findings }) => findings)).toEqual([])
  return report.partitions[0]!
}

test('a last batch that was produced and not marked is there, also when the other lane went on behind it', async () => {
  await bench.capture(plain(3))
  await bench.ingested(3)
  await bench.capture(plain(3))
  await bench.ingested(6)
  await bench.capture(plain(2), TOPICS.rawHistorical)
  await bench.ingested(2, TOPICS.rawHistorical)
  await bench.sql`UPDATE ingest_fence SET produced_through = 3 WHERE topic = ${TOPICS.raw}`
  await bench.retain()
  const [repair] = await repairGaps(bench.deps, APPLY)
  expect(repair).toMatchObject({ lost: [], kept: [], goesOnAt: 6 })
  await bench.loaded()
  expect(await exactAudit()).toMatchObject({ through: 6, stored: 6, lost: 0 })
})

test('a last batch whose rows are in ClickHouse alone is there', async () => {
  await bench.capture(plain(3))
  await bench.ingested(3)
  await bench.capture([...plain(2), { json: 'no json' }])
  await bench.ingested(6)
  await bench.loaded()
  for (const topic of [TOPICS.events, TOPICS.outcomes]) await bench.forgetOutput(topic)
  await bench.sql`UPDATE ingest_fence SET produced_through = 3 WHERE topic = ${TOPICS.raw}`
  await bench.retain()
  expect(await repairGaps(bench.deps, APPLY)).toMatchObject([{ lost: [], kept: [], goesOnAt: 6 }])
  expect(await exactAudit()).toMatchObject({ through: 6, stored: 5, deadLettered: 1, lost: 0 })
})

const BEFORE: Captured[] = [{ json: '{"$set":{"n":1}}', distinctId: 'anna' }]
const LATER: Captured[] = [
  { json: '{"$set":{"n":2}}', distinctId: 'anna' },
  { json: 'no json' },
  { json: '{"properties":{"$groups":{"company":"c"}}}', distinctId: 'carl' },
  { json: '{}', token: 'nobody' },
]

/** Postgres is as it was after BEFORE; everything else knows LATER, too. */
async function goBack(): Promise<void> {
  await bench.emptyState()
  await bench.capture(BEFORE)
  await bench.ingested(BEFORE.length)
  await bench.loaded()
  await bench.backup()
  await bench.capture(LATER)
  await bench.ingested(BEFORE.length + LATER.length)
  await bench.loaded()
  await bench.restore()
}

const END = BEFORE.length + LATER.length

test.each([
  ['the row topics', false],
  ['ClickHouse alone', true],
])(
  'an older Postgres, and a raw log that no longer reaches back to it: rows in %s are kept',
  async (_, gone) => {
    await goBack()
    if (gone) for (const topic of ROW_TOPICS) await bench.forgetOutput(topic)
    await bench.retain()
    await bench.capture(plain(2))
    await expect(rewind(bench.deps, APPLY)).rejects.toMatchObject({
      code: 'HR_REPAIR_GAP_FIRST',
      message: expect.stringContaining('what it did to persons and groups cannot be made again'),
    })
    expect(formatInspection(await inspect(bench.deps))).toContain(`kept: offsets 1 to ${END - 1}`)
    const repairs = await repairGaps(bench.deps, APPLY)
    expect(repairs).toMatchObject([{ lost: [], kept: [{ from: 1, to: END }] }])
    expect(formatGaps(repairs, true)).toContain('0 acknowledged records are lost')
    // Counted under the project of each, so that the roll-up adds up: three of it, one of nobody.
    const [kept] = await bench.sql<{ counts: [number, number, string, number, number][] }[]>`
      SELECT counts FROM receipt WHERE from_offset = 1`
    const of = (team: number) =>
      kept!.counts.reduce((sum, [, teamId, , , events]) => sum + (teamId === team ? events : 0), 0)
    expect([of(1), of(0)]).toEqual([3, 1])
    const again = await rewind(bench.deps, APPLY)
    expect(again.lanes).toEqual([])
    await bench.sentAgain(() => bench.ingested(END + 2))
    await bench.loaded()
    expect(await exactAudit()).toMatchObject({
      through: END + 2,
      stored: 5,
      deadLettered: 1,
      dropped: 1,
      lost: 0,
    })
    // Persons are as Postgres knows them, in ClickHouse as well; the index of a group type is what the rows have.
    const persons = await bench.deps.warehouse.query<{ properties: string }>(
      'SELECT properties FROM person FINAL WHERE is_deleted = 0 ORDER BY version',
    )
    const here = await bench.sql`SELECT properties FROM person WHERE deleted_at IS NULL ORDER BY version`
    expect(persons.map(({ properties }) => JSON.parse(properties))).toEqual(here.map((row) => row.properties))
    expect([...(await bench.sql`SELECT group_type, type_index FROM group_type`)]).toEqual([
      { group_type: 'company', type_index: 0 },
    ] as never)
  },
)

test('load goes on where a row topic begins, behind rows of the lost time that ClickHouse has', async () => {
  await bench.close()
  await openBench([TOPICS.events, TOPICS.persons])
  await goBack()
  await bench.retain(TOPICS.events)
  await bench.capture(plain(2))
  await rewind(bench.deps, APPLY)
  await bench.sentAgain(() => bench.ingested(END + 2))
  await bench.loaded()
  await exactAudit()
})

test('rows of a raw log that was recreated are known to load and to repair alike', async () => {
  await bench.capture(plain(2))
  await bench.ingested(2)
  await bench.backup()
  await bench.capture(plain(3))
  await bench.ingested(5)
  await bench.loaded()
  await bench.restore()
  await bench.recreateRaw()
  const former = bench.rawId
  await bench.learnRawId()
  await bench.capture(plain(1))
  await bench.loadHalts('Postgres was restored to an earlier state')
  const [repair] = await repairGaps(bench.deps, APPLY)
  expect(repair!.kept).toEqual([{ logId: former, from: 2, to: 5 }])
  expect((await rewind(bench.deps, APPLY)).load).toMatchObject([{ from: 0, to: 5, inserted: 0 }])
  await bench.sentAgain(() => bench.ingested(1))
  await bench.loaded()
  await exactAudit()
})

test('a receipt that kept no marks says by its time where to look in the row topics', async () => {
  await bench.capture(plain(3))
  await bench.ingested(3)
  const stretch = async () => (await stretchesSince(bench.deps, 0, [TOPICS.events]))[0]!
  const { end } = await bench.log.bounds(TOPICS.events, 0)
  await bench.sql`UPDATE receipt SET outbox = outbox - 'marks'`
  expect(await stretch()).toMatchObject({ wanted: 0, from: 0, to: end })
  // What was appended more than the difference of clocks before it is no concern of it.
  await bench.sql`UPDATE receipt SET created_at = now() + interval '2 hours'`
  expect(await stretch()).toMatchObject({ from: end, to: end })
})

test('state that waits to be sent again does not wait for a log that is gone', async () => {
  await goBack()
  await rewind(bench.deps, APPLY)
  // More than rows can tell of by now.
  await bench.sql`UPDATE ingest_redo SET to_offset = to_offset + 1`
  await bench.recreateRaw()
  const former = bench.rawId
  await bench.learnRawId()
  await bench.capture(plain(1))
  const [repair] = await repairGaps(bench.deps, APPLY)
  expect(repair!.kept).toEqual([{ logId: former, from: 1, to: END }])
  expect(repair!.lost).toMatchObject([{ logId: former, from: END, to: undefined }])
  await bench.sentAgain(() => bench.ingested(1))
  await bench.loaded()
  await exactAudit()
})
