/** A deletion at work beside ingest and load: what waits to be sent again, and what somebody puts back. */
import { expect, setDefaultTimeout, spyOn, test } from 'bun:test'
import { CANARY_TEAM_ID, createProject, guardState } from '../catalog/index.ts'
import { refusal } from '../cli/deletion.ts'
import { EXIT } from '../cli/exit.ts'
import { planJob, selectLetters } from '../deadletters/index.ts'
import { PERSON } from '../event/index.ts'
import { ERASURE_CELL_OFFSETS, placesErased } from '../ledger/index.ts'
import { bench, benchForEachTest, type Captured } from '../repair/repair.fixture.ts'
import { rowsOf } from './conditions.ts'
import { countRows, eraseRows } from './erase-rows.ts'
import {
  deletePerson,
  deleteProject,
  doneText,
  findOrder,
  isFinding,
  listOrders,
  openText,
  previewPerson,
  previewProject,
} from './index.ts'
import { type Order, openOrder } from './orders.ts'
import { PERSON_TABLES } from './person.ts'
import { KEPT_TABLES, PROJECT_TABLES } from './project.ts'

setDefaultTimeout(60_000)

const WAIT_MS = 20_000

benchForEachTest(
  ({ sql }) =>
    sql`TRUNCATE deletion, deletion_target, erasures, dead_letter_job, dead_letter_decision, audit_gap CASCADE`,
)

const EVENTS: Captured[] = [
  { json: '{"$set":{"email":"anna@example.com"}}', distinctId: 'anna' },
  { json: 'no json', distinctId: 'anna' },
  { json: '{}', distinctId: 'bert' },
  { json: 'no json', distinctId: 'bert' },
]

const PLAIN: Captured[] = ['anna', 'bert'].map((distinctId) => ({ json: '{}', distinctId }))

async function sendAndLoad(events = EVENTS): Promise<void> {
  await bench.capture(events)
  await bench.settled()
}

/** With ingest and load at work. */
function testAtWork(rule: string, work: () => Promise<void>): void {
  test(rule, () => bench.atWork(work))
}

function deleteAnna(waitMs = WAIT_MS) {
  const order = {
    teamId: 1,
    subject: { distinctId: 'anna' },
    by: 'test',
    why: 'asked',
  }
  return deletePerson({ ...bench.deps, says: () => {} }, order, waitMs)
}

const command = (sql: string) => bench.deps.warehouse.command(sql, { id: bench.rawId })

async function idsOf(table: string): Promise<string[]> {
  const rows = await bench.deps.warehouse.query<{ id: string }>(
    `SELECT DISTINCT distinct_id AS id FROM ${table} WHERE _log_id = {id:UUID} ORDER BY id`,
    { id: bench.rawId },
  )
  return rows.map(({ id }) => id)
}

async function exact(erased = 1): Promise<void> {
  const report = await bench.audit()
  expect(report.partitions.flatMap(({ findings }) => findings)).toEqual([])
  expect(report.partitions[0]).toMatchObject({ erased, outcomesCompared: true })
}

const OURS = () => `_log_id = toUUID('${bench.rawId}')`

async function offsetsOf(distinctId: string): Promise<number[]> {
  const rows = await bench.deps.warehouse.query<{ offset: number }>(
    `SELECT _offset AS offset FROM events WHERE ${OURS()} AND distinct_id = {distinctId:String} ORDER BY offset`,
    { distinctId },
  )
  return rows.map(({ offset }) => offset)
}

/** Of events. */
async function placesOnRecord(): Promise<string[]> {
  return [...(await placesErased(bench.sql, { logId: bench.rawId, partition: 0 }, 'events', 0, 100))].sort()
}

const plan = (filter: { teamId: number; distinctId?: string }) =>
  planJob(bench.sql, selectLetters(bench.deps, filter, new Set(['open', 'replaying'])), {
    by: 'test',
    why: '',
    filter,
    eventsPerSecond: 1,
    again: [],
  })

/** As load buries the row of a person that ClickHouse refuses. */
async function buryPerson(uuid: string, offset: number): Promise<void> {
  const row = PERSON.encode({
    ...{ id: uuid, created_at: 1, team_id: 1, properties: '{"email":"anna@example.com"}' },
    ...{ is_identified: 0, is_deleted: 0, version: 1 },
  })
  await command(
    `INSERT INTO dead_letters (team_id, step, timestamp, raw_value, _log_id, _partition, _offset, _sub)
     SELECT 1, 'load:persons', now64(3), unhex('${row.toString('hex')}'), {id:UUID}, 0, ${offset}, 0`,
  )
}

testAtWork(
  'no letter of whom is deleted is sent again; a second order ends the first, and says so',
  async () => {
    await command('TRUNCATE TABLE dead_letters')
    await sendAndLoad()
    const [person] = await bench.sql`
    SELECT p.uuid FROM person p JOIN person_distinct_id d ON d.person_id = p.id WHERE d.distinct_id = 'anna'`
    const { uuid } = person!
    const deps = { ...bench.deps, says: () => {} }
    const order = { teamId: 1, subject: { distinctId: 'anna' }, by: 'first', why: 'asked' }
    // Nothing is planned of whom an order is about, whichever way it says so.
    await openOrder(bench.sql, { ...order, kind: 'person', subject: { uuid } })
    expect(await plan({ teamId: 1 })).toMatchObject({ letters: 1, held: 1 })
    await bench.sql`DELETE FROM deletion`
    expect(await plan({ teamId: 1, distinctId: 'anna' })).toMatchObject({ letters: 1, held: 0 })
    await bench.sql`UPDATE dead_letter_job SET runner = gen_random_uuid()`
    expect(await previewPerson(deps, order)).toEqual({
      persons: 1,
      distinctIds: 1,
      rows: { ingestion_warnings: 0, dead_letters: 1, outcomes: 1, events: 1 },
    })
    // Letters of state rows have no distinct id. Place 2 is another one's, whose own letter is there.
    await buryPerson(uuid, 2)
    await buryPerson('00112233-4455-6677-8899-aabbccddeeff', 0)

    await cutOff(() => deletePerson(deps, order, WAIT_MS))
    const open = await findOrder(bench.sql, { ...order, kind: 'person' })
    expect(open).toMatchObject({ state: 'erasing', by: 'first' })
    expect(openText(open!)).toContain('ordered by first')
    expect(await shownWithoutYes({ ...order, kind: 'person' })).toContain('ordered by first')
    // What was planned before anybody knew whose it is goes when nothing can be planned any more.
    await bench.sql`UPDATE dead_letter_decision SET state = 'planned' WHERE state = 'discarded'`
    await bench.sql`UPDATE deletion SET state = 'taken'`
    const done = await deleteAnna()
    expect(done).toMatchObject({ resumed: true, counts: { events: 1, dead_letters: 1 } })
    expect(isFinding(done)).toBe(true)
    expect(doneText(done)).toContain('Give it again')
    expect(await findOrder(bench.sql, { ...order, kind: 'person' })).toBeUndefined()

    const decisions = await bench.sql`
    SELECT state, why FROM dead_letter_decision WHERE log_id = ${bench.rawId} ORDER BY raw_offset`
    expect([...decisions]).toEqual([
      { state: 'discarded', why: 'its person was deleted' },
      { state: 'planned', why: '' },
    ])
    // The sender of hers starts anew, and does not know any more whose they were.
    const jobs =
      await bench.sql`SELECT state, runner IS NULL AS free, filter FROM dead_letter_job ORDER BY id`
    expect([...jobs]).toEqual([
      { state: 'open', free: false, filter: { teamId: 1 } },
      { state: 'open', free: true, filter: { teamId: 1 } },
    ])
    for (const table of ['events', 'outcomes']) expect(await idsOf(table)).toEqual(['bert'])
    expect(await idsOf('dead_letters')).toEqual(['', 'bert'])
    await exact()
  },
)

testAtWork(
  'an empty id is refused, since rows without an id have it; of an id that is none nothing is deleted',
  async () => {
    const order = { teamId: 1, by: 'test', why: '' }
    const deps = { ...bench.deps, says: () => {} }
    for (const ask of [
      () => previewPerson(deps, { teamId: 1, subject: { distinctId: '' } }),
      () => deletePerson(deps, { ...order, subject: { distinctId: '' } }, 0),
    ])
      await expect(ask()).rejects.toMatchObject({ code: 'HR_DELETION_REFUSED' })
    expect(await bench.sql`SELECT FROM deletion`).toHaveLength(0)
    const done = await deletePerson(deps, { ...order, subject: { distinctId: 'ana' } }, WAIT_MS)
    expect(doneText(done)).toContain('nothing was known')
    expect(isFinding(done)).toBe(true)
  },
)

/** It comes as far as the raw log's ends: a repair may have rows to send. */
async function cutOff(work: () => Promise<unknown>): Promise<void> {
  await bench.cutOffRepair()
  await expect(work()).rejects.toMatchObject({
    code: 'HR_REPAIR_WAITS',
    message: expect.stringContaining('cut off'),
  })
  await bench.sql`DELETE FROM repair_attempt`
}

/** As an audit does. */
async function noteGap(offset: number): Promise<void> {
  await bench.sql`
    INSERT INTO audit_gap (log_id, partition, from_offset, to_offset, unaccounted)
    VALUES (${bench.rawId}, 0, ${offset}, ${offset + 1}, 1)`
}

/** Of an order that is open: what it takes is not looked for any more. */
async function shownWithoutYes(order: Order): Promise<string> {
  const shown: string[] = []
  const stdout = spyOn(process.stdout, 'write').mockImplementation((text) => {
    shown.push(String(text))
    return true
  })
  try {
    const flags = { project: '', why: '', by: '', wait: 0, dryRun: true } as never
    const code = await refusal(bench.sql, order, flags, () => Promise.reject(new Error('looked for it')))
    expect(code).toBe(EXIT.finding)
  } finally {
    stdout.mockRestore()
  }
  return shown.join('')
}

testAtWork('rows that somebody put back go again, and are on record once', async () => {
  await sendAndLoad(PLAIN)
  await command('CREATE TABLE kept AS events')
  await command('INSERT INTO kept SELECT * FROM events WHERE _log_id = {id:UUID}')
  try {
    await deleteAnna()
    await exact()
    await command(
      `INSERT INTO events SELECT * FROM kept WHERE distinct_id = 'anna' SETTINGS insert_deduplicate = 0`,
    )
    expect((await bench.audit()).exact).toBe(false)
    await deleteAnna()
    await exact()
  } finally {
    await command('DROP TABLE kept')
  }
  const records =
    await bench.sql`SELECT table_name, sum(rows)::int AS rows FROM erasures GROUP BY 1 ORDER BY 1`
  expect([...records]).toEqual([{ table_name: 'events', rows: 1 }])
  const orders = await listOrders(bench.sql, 'person', 1)
  expect(orders.map(({ state, subject, counts }) => [state, subject, counts.events])).toEqual([
    ['done', undefined, 0],
    ['done', undefined, 1],
  ])
  expect(await bench.sql`SELECT FROM deletion_target`).toHaveLength(0)
})

test('rows of several partitions, months and cells are on record by place, copies once', async () => {
  const { id } = await openOrder(bench.sql, {
    ...{ teamId: 77, kind: 'person', subject: { distinctId: 'many' }, by: 'test', why: '' },
  })
  await bench.sql`UPDATE deletion SET state = 'erasing'`
  const rows = 3_000
  for (let copy = 0; copy < 2; copy++)
    await command(
      `INSERT INTO outcomes (team_id, distinct_id, timestamp, _log_id, _partition, _offset, _sub)
       SELECT 77, 'many', addMonths(toDateTime64('2026-03-04 05:06:07', 3), number % 2), {id:UUID}, number % 3,
         intDiv(number, 3) * 21, number % 2
       FROM numbers(${copy === 0 ? rows : 10}) SETTINGS insert_deduplicate = 0`,
    )
  const deps = { ...bench.deps, says: () => {}, hold: async () => {} }
  await eraseRows(deps, id, 1, (table) => (table === 'outcomes' ? 'team_id = 77' : '0'))
  expect(await countRows(bench.deps.warehouse, 1, () => 'team_id = 77')).toMatchObject({ outcomes: 0 })
  for (const partition of [0, 1, 2]) {
    const wanted: string[] = []
    for (let n = partition; n < rows; n += 3) wanted.push(`${Math.floor(n / 3) * 21}/${n % 2}`)
    const found = await placesErased(bench.sql, { logId: bench.rawId, partition }, 'outcomes', 0, 100_000)
    expect([...found].sort()).toEqual(wanted.sort())
  }
  const records = await bench.sql`
    SELECT sum(rows)::int AS rows, max(to_offset - from_offset)::int <= ${ERASURE_CELL_OFFSETS} AS short,
      count(*) FILTER (WHERE erased_at IS NULL)::int AS open FROM erasures`
  expect([...records]).toEqual([{ rows, short: true, open: 0 }])
})

test('a warning is a person’s by the fields that name whom it is about, also in details that were cut off', async () => {
  const uuid = '00112233-4455-6677-8899-aabbccddeeff'
  const about = (details: object) => JSON.stringify(details)
  const cut = (details: object) => about({ truncated: about(details).slice(0, 100) })
  const hers = [
    about({ distinctId: 'event', event: 'x' }),
    about({ eventUuid: 'u', otherDistinctId: 'event' }),
    about({ personId: uuid, distinctId: 'other' }),
    about({ distinctId: 'a"n\\na' }),
    cut({ distinctId: 'event', message: 'x'.repeat(200) }),
    cut({ distinctId: 'a"n\\na', message: 'x'.repeat(200) }),
  ]
  const others = [
    about({ distinctId: 'other', event: 'event' }),
    about({ distinctId: 'other', message: '"distinctId":"event"' }),
    about({ distinctId: 'other', keys: ['event', uuid] }),
    cut({ distinctId: 'other', event: 'event', message: 'x'.repeat(200) }),
  ]
  const targets = {
    persons: [{ uuid, createdMs: 1 }],
    ids: ['event', 'a"n\\na'].map((distinctId) => ({ distinctId, overridden: false })),
  }
  const rows = [...hers, ...others].map((details) => `(1, unhex('${Buffer.from(details).toString('hex')}'))`)
  const found = await bench.deps.warehouse.query<{ details: string }>(
    `SELECT details FROM values('team_id Int64, details String', ${rows.join()})
     WHERE ${rowsOf('ingestion_warnings', 1, targets, undefined)}`,
  )
  expect(found.map(({ details }) => details).sort()).toEqual(hers.sort())
})

test('ids that are on their way to another person keep the person until they are sent', async () => {
  await bench.atWork(() => sendAndLoad(PLAIN))
  const order = { teamId: 1, subject: { distinctId: 'anna' }, by: 'test', why: '' }
  const deps = { ...bench.deps, says: () => {} }
  await bench.sql`
    INSERT INTO pending_move (person_id, team_id, outbox)
    SELECT person_id, 1, '[[1, "anna"]]' FROM person_distinct_id WHERE team_id = 1 AND distinct_id = 'anna'`
  await expect(deletePerson(deps, order, 300)).rejects.toMatchObject({ code: 'HR_REPAIR_WAITS' })
  const open = await findOrder(bench.sql, { ...order, kind: 'person' })
  expect(open).toMatchObject({ state: 'asked' })
  // Who comes to it between the look and the lock is told the same.
  const taken = guardState('take out', async () => {
    await bench.sql`SELECT take_person_out(${open!.id}, NULL, 'anna', NULL)`
  })
  await expect(taken).rejects.toMatchObject({ class: 'retriable' })
  expect(await bench.sql`SELECT FROM deletion_target`).toHaveLength(0)
  await bench.atWork(() => deleteAnna())
  expect(await idsOf('events')).toEqual(['bert'])
})

testAtWork(
  'a piece that was cut off is ended in front of all questions, with what a repair brought back of it',
  async () => {
    const anna = { json: '{}', distinctId: 'anna' }
    await sendAndLoad([anna, anna, { json: '{}', distinctId: 'bert' }])
    await command(`ALTER TABLE events DELETE WHERE ${OURS()} AND _offset = 1 SETTINGS mutations_sync = 2`)
    // A loss that is known is repaired first, since a repair would bring it back afterwards.
    await noteGap(1)
    await expect(deleteAnna()).rejects.toMatchObject({
      code: 'HR_REPAIR_WAITS',
      message: expect.stringContaining('repair rows'),
    })
    expect(await placesOnRecord()).toEqual([])
    await bench.sql`DELETE FROM audit_gap`
    await bench.sql`
    CREATE FUNCTION cut_off() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''cut off''; END'`
    await bench.sql`
    CREATE TRIGGER cut_off BEFORE UPDATE ON deletion FOR EACH ROW
    WHEN (OLD.piece IS NOT NULL AND NEW.piece IS NULL) EXECUTE FUNCTION cut_off()`
    try {
      await expect(deleteAnna()).rejects.toThrow('cut off')
    } finally {
      await bench.sql`DROP FUNCTION cut_off CASCADE`
    }
    expect(await placesOnRecord()).toEqual(['0/0'])
    // What is on record does not come back; the loss does.
    await bench.repairRows()
    expect(await offsetsOf('anna')).toEqual([1])
    // A repair that was cut off in turn would send its rows behind the deletion.
    await cutOff(() => deleteAnna())
    expect(await offsetsOf('anna')).toEqual([1])
    // Of the piece itself, when it stands still for a day, the audit says that it is missing: until an audit finds otherwise
    // nothing more is begun, but the piece is over.
    await noteGap(0)
    await expect(deleteAnna()).rejects.toMatchObject({ message: expect.stringContaining('repair rows') })
    expect(await placesOnRecord()).toEqual(['0/0', '1/0'])
    await exact(2)
    await bench.sql`DELETE FROM audit_gap`
    expect((await deleteAnna()).counts.events).toBe(2)
    await bench.repairRows()
    expect(await idsOf('events')).toEqual(['bert'])
    await exact(2)
  },
)

const STALE_MS = 200

/** The whole time counts from the commit on that closes a project, however long that takes. */
async function closedSlowly<T>(work: () => Promise<T>): Promise<T> {
  await bench.sql`CREATE TABLE seen_at (closed timestamptz, noted timestamptz)`
  await bench.sql`
    CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF TG_TABLE_NAME = 'project' AND NEW.state = 'closed' THEN PERFORM pg_sleep(0.3);
        INSERT INTO seen_at (closed) VALUES (clock_timestamp());
      ELSIF TG_TABLE_NAME = 'deletion' AND NEW.state = 'erasing' THEN UPDATE seen_at SET noted = coalesce(noted, clock_timestamp());
      END IF;
      RETURN NULL;
    END $$`
  await bench.sql`CREATE TRIGGER slow AFTER UPDATE ON project FOR EACH ROW EXECUTE FUNCTION slow()`
  await bench.sql`CREATE TRIGGER slow AFTER UPDATE ON deletion FOR EACH ROW EXECUTE FUNCTION slow()`
  try {
    const done = await work()
    const [seen] =
      await bench.sql`SELECT extract(epoch FROM noted - closed)::float8 * 1000 AS ms FROM seen_at`
    expect(seen!.ms).toBeGreaterThanOrEqual(STALE_MS)
    return done
  } finally {
    await bench.sql`DROP TABLE seen_at`
    await bench.sql`DROP FUNCTION slow CASCADE`
  }
}

testAtWork(
  'a project goes whole, with what was ordered about it; others stay, and its late events are nobody’s',
  async () => {
    const { teamId } = await createProject(bench.sql, { name: 'shop', token: 'shop' })
    const ofShop = (json: string, distinctId: string, event = 'e'): Captured => ({
      json,
      distinctId,
      event,
      token: 'shop',
    })
    const events = [
      ...EVENTS,
      ofShop('{"$set":{"email":"zoe@example.com"}}', 'zoe'),
      ofShop('{}', 'anon'),
      ofShop('{"properties":{"$anon_distinct_id":"anon"}}', 'zoe', '$identify'),
      ofShop('{"properties":{"$group_type":"firm","$group_key":"f"}}', 'zoe', '$groupidentify'),
      ofShop('no json', 'zoe'),
    ]
    await bench.capture(events)
    await bench.settled()
    const deps = { ...bench.deps, says: () => {} }
    await planJob(bench.sql, selectLetters(deps, { teamId }, new Set(['open'])), {
      by: 'test',
      why: '',
      filter: { teamId },
      eventsPerSecond: 1,
      again: [],
    })
    // A deletion of one of its persons that was cut off.
    await bench.sql`
    INSERT INTO deletion (id, kind, team_id, subject, asked_by, why)
    VALUES (gen_random_uuid(), 'person', ${teamId}, '{"distinctId":"zoe"}', 'test', '')`
    await bench.sql`INSERT INTO deletion_target (deletion_id, kind, key) SELECT id, 'distinct_id', 'zoe' FROM deletion`
    const preview = await previewProject(deps, teamId)
    expect(preview.rows).toMatchObject({ events: 4, dead_letters: 1, person: 2, group_state: 1 })
    const others = await previewProject(deps, 1)

    const done = await closedSlowly(() =>
      deleteProject(
        { ...deps, projectsStaleMs: STALE_MS },
        { teamId, name: 'shop', by: 'test', why: 'over' },
        WAIT_MS,
      ),
    )
    expect(done).toMatchObject({
      state: 'done',
      subject: { project: 'shop' },
      counts: { persons: 1, distinctIds: 2, events: 4, dead_letters: 1, outcomes: 1 },
    })
    await bench.capture([ofShop('{}', 'zoe')])
    await bench.settled()

    const left = await previewProject(deps, teamId)
    expect(Object.values(left.rows).every((rows) => rows === 0)).toBe(true)
    for (const table of ['person', 'person_distinct_id_overrides', 'groups']) {
      const found = await bench.deps.warehouse.query(`SELECT * FROM ${table} WHERE team_id = ${teamId}`)
      expect([table, found]).toEqual([table, []])
    }
    expect(await bench.sql`SELECT FROM project WHERE team_id = ${teamId}`).toHaveLength(0)
    expect(await bench.sql`SELECT FROM deletion_target`).toHaveLength(0)
    expect(await bench.sql`SELECT FROM deletion WHERE state <> 'done'`).toHaveLength(0)
    expect(await previewProject(deps, 1)).toEqual(others)
    const late = await bench.deps.warehouse.query(
      'SELECT team_id, reason FROM outcomes WHERE _log_id = {id:UUID} AND _offset = {last:UInt64}',
      { id: bench.rawId, last: events.length },
    )
    expect(late).toEqual([{ team_id: 0, reason: 'unknown_token' }])
    const report = await bench.audit()
    expect(report.partitions.flatMap(({ findings }) => findings)).toEqual([])
  },
)

test('every table of Postgres with rows of a project, or with persons, is one that a deletion knows; the canary stays', async () => {
  const columns = await bench.sql<{ table: string; column: string }[]>`
    SELECT c.table_name AS table, c.column_name AS column FROM information_schema.columns c
    JOIN information_schema.tables t USING (table_schema, table_name)
    WHERE c.table_schema = 'public' AND t.table_type = 'BASE TABLE'`
  const tablesWith = (name: RegExp) =>
    [...new Set(columns.filter(({ column }) => name.test(column)).map(({ table }) => table))].sort()
  expect(tablesWith(/^team_id$/)).toEqual([...PROJECT_TABLES, ...KEPT_TABLES].sort())
  expect(tablesWith(/person|distinct_id/)).toEqual([...PERSON_TABLES].sort())
  const canary = { teamId: CANARY_TEAM_ID, name: 'headrace canary', by: 'test', why: '' }
  await expect(deleteProject({ ...bench.deps, says: () => {} }, canary, 0)).rejects.toMatchObject({
    code: 'HR_DELETION_REFUSED',
  })
})
