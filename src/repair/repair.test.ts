/** Halts that no waiting mends, and what brings ingest back: rows in ClickHouse are the acknowledged events, each once. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test'
import { PERSON, TOPICS } from '../event/index.ts'
import { formatAudit } from '../ledger/index.ts'
import { formatGaps, formatInspection, formatRewind, inspect, repairGaps, rewind } from './index.ts'
import { bench, benchForEachTest, type Captured } from './repair.fixture.ts'

setDefaultTimeout(60_000)

benchForEachTest()

const LOSS = { apply: true }
const plain = (count: number): Captured[] => Array.from({ length: count }, (_, n) => ({ json: `{"n":${n}}` }))

/** Of the raw topic that had this id: offsets in `events`, sorted, copies included. */
async function storedOffsets(rawId = bench.rawId): Promise<number[]> {
  const rows = await bench.deps.warehouse.query<{ offset: number }>(
    'SELECT _offset AS offset FROM events WHERE _log_id = {id:UUID} ORDER BY _offset',
    { id: rawId },
  )
  return rows.map(({ offset }) => offset)
}

async function exactAudit() {
  const report = await bench.audit()
  expect(report.partitions.flatMap(({ findings }) => findings)).toEqual([])
  return report
}

const upTo = (from: number, to: number) => Array.from({ length: to - from }, (_, n) => from + n)

describe('retention passed records that were not read', () => {
  test('ingest halts, and goes on behind the loss, which the ledger names', async () => {
    await bench.capture(plain(4))
    await bench.ingested(4)
    await bench.capture(plain(6))
    await bench.retain()
    await bench.ingestHalts('begins at offset 10, but 4 is to be read next')
    await bench.capture(plain(3))

    const found = await inspect(bench.deps)
    expect(formatInspection(found)).toContain(`offsets 4 to 9 of log ${bench.rawId}, at most 6 records`)
    const dry = await repairGaps(bench.deps, { apply: false })
    expect(await repairGaps(bench.deps, LOSS)).toEqual(dry)
    expect(await repairGaps(bench.deps, LOSS)).toEqual([])

    await bench.ingested(13)
    await bench.loaded()
    expect(await storedOffsets()).toEqual([...upTo(0, 4), ...upTo(10, 13)])
    const report = await exactAudit()
    expect(report.partitions[0]).toMatchObject({ through: 13, stored: 7, lost: 6 })
    expect(report.losses).toMatchObject([{ from: 4, to: 10, cause: 'retention', logId: bench.rawId }])
    expect(formatAudit(report)).toContain('raw_events/0 4..9  lost: retention removed them')
  })

  test('of a batch that was applied but never produced, only what no reader can ever see is lost', async () => {
    await bench.capture([{ json: '{"$set":{"a":1}}' }, ...plain(2)])
    await bench.ingested(3)
    await bench.loaded()
    await bench.capture([{ json: '{"$set":{"a":2}}' }, { json: 'no json' }, ...plain(1)])
    await bench.ingested(6)
    // As after a crash between the commit of the second batch and its produce: what it sent never came.
    for (const topic of [TOPICS.events, TOPICS.outcomes, TOPICS.persons]) await bench.forgetOutput(topic)
    await bench.sql`UPDATE ingest_fence SET produced_through = 3 WHERE topic = ${TOPICS.raw}`
    await bench.retain()
    await bench.ingestHalts('begins at offset 6, but 3 is to be read next')
    await bench.capture(plain(2))
    const [repair] = await repairGaps(bench.deps, LOSS)
    expect(repair!.lost).toMatchObject([{ from: 3, to: 6 }])
    await bench.sentAgain(() => bench.ingested(8))
    await bench.loaded()
    expect(await storedOffsets()).toEqual([0, 1, 2, 6, 7])
    expect((await exactAudit()).partitions[0]).toMatchObject({ through: 8, stored: 5, lost: 3 })
    const rows = await bench.rowsOf(TOPICS.persons, PERSON.decode)
    expect(JSON.parse(rows.at(-1)!.properties)).toMatchObject({ a: 2 })
  })

  test('a copy of an event that is lost is stored, although the dedup index knew the event', async () => {
    await bench.capture(plain(3))
    await bench.ingested(3)
    for (const topic of [TOPICS.events, TOPICS.outcomes]) await bench.forgetOutput(topic)
    await bench.sql`UPDATE ingest_fence SET produced_through = 1 WHERE topic = ${TOPICS.raw}`
    await bench.retain()
    await bench.ingestHalts('begins at offset 3, but 1 is to be read next')
    const [repair] = await repairGaps(bench.deps, LOSS)
    const lost = repair!.lost[0]!
    const uuidOf = (offset: number) => `018f4b2e-0000-7000-8000-${String(offset).padStart(12, '0')}`
    await bench.capture([
      { json: '{"n":0}', uuid: uuidOf(lost.from - 1) },
      { json: '{"n":1}', uuid: uuidOf(lost.from) },
    ])
    await bench.ingested(5)
    const receipts = await bench.sql`
      SELECT sum(stored)::int AS stored, sum(duplicate)::int AS duplicate FROM receipt WHERE from_offset >= 3`
    expect({ ...receipts[0] }).toEqual({ stored: 1, duplicate: 1 })
  })

  test('what can still be read is never given up', async () => {
    await bench.capture(plain(4))
    await bench.ingested(2 + 2)
    await bench.capture(plain(2))
    expect(await repairGaps(bench.deps, LOSS)).toEqual([])
    expect(formatInspection(await inspect(bench.deps))).toStartWith('nothing to repair')
  })
})

describe('the raw topic was recreated', () => {
  test('the former log is closed at what was read of it, and the new one is read from its start', async () => {
    await bench.capture(plain(4))
    await bench.ingested(4)
    await bench.capture(plain(5))
    const former = bench.rawId
    await bench.recreateRaw()
    await bench.learnRawId()
    await bench.capture(plain(3))
    await bench.ingestHalts('was recreated')
    const repairs = await repairGaps(bench.deps, { apply: false })
    expect(formatGaps(repairs, false)).toContain(
      `lost: offset 4 up to the end of log ${former}, which is gone`,
    )
    await bench.ingestHalts('was recreated')
    await repairGaps(bench.deps, LOSS)
    expect(await repairGaps(bench.deps, LOSS)).toEqual([])
    await bench.ingested(3)
    await bench.loaded()
    expect(await storedOffsets(former)).toEqual(upTo(0, 4))
    expect(await storedOffsets()).toEqual(upTo(0, 3))
    const report = await exactAudit()
    expect(report.losses).toMatchObject([{ from: 4, to: undefined, cause: 'recreated', logId: former }])
  })
})

test('a log that lost records and grew past where it was read is noticed and refused', async () => {
  await bench.capture(plain(2))
  await bench.ingested(2)
  await bench.capture(plain(2))
  await bench.ingested(4)
  await bench.capture(plain(3))
  // What was read at these offsets is not what the log holds there now.
  await bench.sql`UPDATE receipt SET checksum = checksum + 1 WHERE to_offset = 4`
  await bench.ingestHalts('holds other records at offsets 2 to 3 than were read there')
  await expect(repairGaps(bench.deps, LOSS)).rejects.toMatchObject({ code: 'HR_REPAIR_LOG_WENT_BACK' })
  expect(formatInspection(await inspect(bench.deps))).toContain('holds other records below offset 4')
})

test('a log that lost records it had shown is refused, with the way out', async () => {
  await bench.capture(plain(4))
  await bench.ingested(4)
  await bench.sql`UPDATE ingest_fence SET next_offset = 9, produced_through = 9 WHERE topic = ${TOPICS.raw}`
  await expect(repairGaps(bench.deps, LOSS)).rejects.toMatchObject({ code: 'HR_REPAIR_LOG_WENT_BACK' })
  await expect(rewind(bench.deps, LOSS)).rejects.toMatchObject({ code: 'HR_REPAIR_LOG_WENT_BACK' })
  expect(formatInspection(await inspect(bench.deps))).toContain(
    'docs/runbooks/ingest-halted.md#the-log-lost-records',
  )
})

/** Its row, which shows its person, is larger than the log takes; its person has `big` all the same. */
const TOO_LARGE = `{"$set":{"big":"${'b'.repeat(500_000)}"},"properties":{"pad":"${'p'.repeat(3_500_000)}"}}`

/** Before the backup, and in the time that is lost: merges, groups, every kind of end. */
const BEFORE: Captured[] = [
  { json: '{"$set":{"n":1}}', distinctId: 'anna' },
  { json: '{}', distinctId: 'anon' },
]
const LOST: Captured[] = [
  { json: '{"$set":{"n":2}}', distinctId: 'anna' },
  { json: '{"properties":{"$anon_distinct_id":"anon"}}', event: '$identify', distinctId: 'anna' },
  { json: 'no json' },
  { json: '{}', token: 'nobody' },
  { json: '{"properties":{"$groups":{"company":"c"}}}', distinctId: 'carl' },
  { json: '{"$set":{"n":3}}', distinctId: 'dora' },
  { json: TOO_LARGE, distinctId: 'dora' },
  { json: '{}', uuid: '018f4b2e-0000-7000-8000-0000000000aa' },
  { json: '{}', uuid: '018f4b2e-0000-7000-8000-0000000000aa' },
]
const END = BEFORE.length + LOST.length

describe('Postgres was restored to an earlier state', () => {
  const persons = () => bench.sql`
    SELECT p.uuid, p.properties, p.is_identified, p.deleted_at IS NOT NULL AS dead,
      (SELECT array_agg(d.distinct_id ORDER BY d.distinct_id) FROM person_distinct_id d WHERE d.person_id = p.id) AS ids
    FROM person p ORDER BY uuid`
  /** What ClickHouse says of persons and overrides, against what Postgres says. */
  async function expectSameState(): Promise<void> {
    const there = await bench.deps.warehouse.query<{ id: string; properties: string; dead: number }>(
      'SELECT id, properties, is_deleted AS dead FROM person FINAL ORDER BY toString(id)',
    )
    const here = await bench.sql`
      SELECT uuid::text AS id, properties, deleted_at IS NOT NULL AS dead FROM person ORDER BY uuid::text`
    const alive = there.filter(({ dead }) => dead === 0)
    expect(alive.map(({ id, properties }) => [id, JSON.parse(properties)])).toEqual(
      here.filter(({ dead }) => !dead).map(({ id, properties }) => [id, properties]),
    )
    const overrides = await bench.deps.warehouse.query<{ distinct_id: string; person_id: string }>(
      'SELECT distinct_id, person_id FROM person_distinct_id_overrides FINAL WHERE is_deleted = 0 ORDER BY distinct_id',
    )
    const mappings = await bench.sql`
      SELECT d.distinct_id, p.uuid::text AS person_id FROM person_distinct_id d JOIN person p ON p.id = d.person_id
      WHERE d.version > 0 ORDER BY d.distinct_id`
    expect(overrides).toEqual([...mappings] as never)
  }

  async function loseTime(events: Captured[] = LOST): Promise<void> {
    await bench.emptyState()
    await bench.capture(BEFORE)
    await bench.ingested(BEFORE.length)
    await bench.loaded()
    await bench.backup()
    await bench.capture(events)
    await bench.ingested(BEFORE.length + events.length)
  }

  test('ingest and load halt; after the repair everything is there once, and the state is what it was', async () => {
    await loseTime()
    await bench.loaded()
    const before = { persons: [...(await persons())], offsets: await storedOffsets() }
    await bench.restore()
    await bench.ingestHalts('Postgres was restored to an earlier state')
    await bench.loadHalts('Postgres was restored to an earlier state')
    await bench.capture(plain(2))

    const dry = await rewind(bench.deps, { apply: false })
    expect(dry.lanes).toMatchObject([{ from: 2, to: END, decided: LOST.length }])
    await bench.ingestHalts('Postgres was restored to an earlier state')
    expect(await rewind(bench.deps, LOSS)).toEqual(dry)
    expect(formatRewind(await rewind(bench.deps, LOSS), true)).toStartWith('Postgres is not behind')

    await bench.sentAgain(() => bench.ingested(END + 2))
    await bench.loaded()
    expect(await storedOffsets()).toEqual([...before.offsets, END, END + 1])
    const report = await exactAudit()
    expect(report.partitions[0]).toMatchObject({ through: END + 2, outcomesCompared: true })
    expect([...(await persons())]).toEqual(before.persons)
    await expectSameState()
  })

  test('on another machine, under other options and with rows that were not loaded yet, it is the same', async () => {
    await loseTime()
    await bench.restore()
    bench.forgetIndex()
    await bench.sql`UPDATE project SET settings = '{"ingestion":{"dropEventsOlderThanSeconds":1}}'`
    await bench.ingestHalts('holds the row of')
    await bench.loaded()
    await rewind(bench.deps, LOSS)
    await bench.sentAgain(() => bench.ingested(END))
    await bench.loaded()
    await exactAudit()
    await expectSameState()
    const [duplicate] = await bench.deps.warehouse.query<{ n: number }>(
      `SELECT count() AS n FROM outcomes FINAL WHERE _log_id = {id:UUID} AND state = 'duplicate'`,
      { id: bench.rawId },
    )
    expect(duplicate!.n).toBe(1)
    await bench.sql`UPDATE project SET settings = '{}'`
  })

  test('an insert that was under way is completed, and no row of it comes twice', async () => {
    await loseTime()
    await bench.loaded()
    await bench.deps.warehouse.command(
      'ALTER TABLE events DELETE WHERE _log_id = {id:UUID} AND _offset = 3 SETTINGS mutations_sync = 2',
      { id: bench.rawId },
    )
    await bench.restore()
    const done = await rewind(bench.deps, LOSS)
    expect(done.load).toMatchObject([{ inserted: 1 }])
    await bench.sentAgain(() => bench.ingested(END))
    await bench.loaded()
    await exactAudit()
  })

  test('a project that the restored state does not know is refused by its number', async () => {
    await bench.emptyState()
    await bench.capture(BEFORE)
    await bench.ingested(BEFORE.length)
    await bench.backup()
    const [project] = await bench.sql`
      INSERT INTO project (name, token) VALUES ('new', 'new') RETURNING team_id`
    await bench.capture([{ json: '{}', token: 'new' }])
    await bench.ingested(BEFORE.length + 1)
    await bench.restore()
    await expect(rewind(bench.deps, LOSS)).rejects.toMatchObject({
      code: 'HR_REPAIR_PROJECT_MISSING',
      message: expect.stringContaining(`team id ${project!.team_id}`),
    })
  })

  test('a standby that lacks only the newest batch is noticed, too', async () => {
    await loseTime([{ json: '{}' }])
    await bench.restore()
    bench.forgetIndex()
    await bench.ingestHalts('holds the row of')
  })
})

describe('no false alarm', () => {
  test('a deployment at work is not behind', async () => {
    let sending = true
    const send = async () => {
      while (sending) await bench.capture(plain(5))
    }
    const sent = send()
    let looks = 0
    await bench.ingest(async () => {
      const { lanes, load } = await rewind(bench.deps, { apply: true })
      expect({ lanes, load }).toEqual({ lanes: [], load: [] })
      return ++looks === 5
    })
    sending = false
    await sent
  })

  test('a batch that was applied and never produced, and copies of an older one', async () => {
    await bench.capture(plain(5))
    await bench.ingested(5)
    await bench.sql`UPDATE ingest_fence SET produced_through = 0`
    await bench.ingested(5)
    await bench.sql`UPDATE ingest_fence SET produced_through = 0`
    bench.forgetIndex()
    await bench.ingested(5)
    await bench.loaded()
    await bench.loaded()
    await exactAudit()
  })
})
