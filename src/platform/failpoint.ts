/**
 * Places where a fault test lets a process die or stand still. In: `HEADRACE_TEST_FAILPOINT`, as it was when the process
 * started, such as `after_read:0.01,acked:0.2`: the probability with which each call kills this process with SIGKILL, as
 * a power cut would, after one line on standard error that names the place. `acked:0.2:stop` stops it there with SIGSTOP
 * instead, once: when somebody lets it go on, it goes on as if nothing had been; `locked:0.5:then` kills only a process
 * that has stood still before. `HEADRACE_TEST_SEED` makes the choice repeatable.
 *
 * Must hold: without the variable a call is a call of an empty function, and nothing can bring it to life later. One
 * call per request, group or batch, never per event.
 */
import { writeSync } from 'node:fs'

/** Every place, by role; a value above 0 = it happens so many ms later at most, while the work is under way. */
export const FAILPOINTS = {
  capture: {
    /** The whole body of a request is in memory. */
    after_read: 0,
    /** The events of a request are judged, none is handed to the writer. */
    parsed: 0,
    /** A group was handed to the log's producer; it is on its way, in the log, or just acknowledged. */
    produce_sent: 6,
    /** The log has acknowledged a group, and nobody was told. */
    acked: 0,
    /** The answer to a request is made and not sent. */
    before_answer: 0,
    /** A group is durable in the spool, and nobody was told. */
    spool_appended: 0,
    /** A batch of the spool was handed to the log's producer; as `produce_sent`. */
    drain_sent: 6,
    /** A batch of the spool is in the log, and the spool's position does not say so. */
    drained_before_position: 0,
  },
  ingest: {
    /** A batch was read from its raw lane. */
    batch_read: 0,
    /** Its events went through the steps; Postgres knows nothing of it. */
    batch_transformed: 0,
    /** The statement that applies it was sent; it is on its way, at work, or committed. */
    apply_sent: 6,
    /** On the locked way: the transaction has begun and holds the fence and the persons. */
    apply_begun: 0,
    /** On the locked way: all is written, nothing is committed. */
    apply_before_commit: 0,
    /** Postgres has it, and nothing else says so. */
    apply_committed: 0,
    /** The dedup index has its claims. */
    claims_stored: 0,
    /** Rows were handed to the log's producer; none, some or all of them land. */
    rows_sent: 6,
    /** Its rows, or a piece of them, are in the log, and nobody was told. */
    rows_produced: 0,
    /** What was produced is about to be noted in Postgres. */
    before_mark: 0,
    /** A new owner has sent again what the one before may not have. */
    replay_sent: 6,
    /** That is in the log, and Postgres does not know. */
    replay_before_mark: 0,
  },
  load: {
    /** The fences have moved and the intent stands, in one transaction; nobody holds it. */
    intent_written: 0,
    /** Its owner holds the lock of the intent; nothing was sent. */
    locked: 0,
    /** An insert was handed to ClickHouse; none, a part or all of its bytes are there, or its rows are. */
    insert_sent: 60,
    /** ClickHouse has the rows, and nothing else says so. */
    inserted: 0,
    /** The intent is marked in a transaction that is not committed. */
    done: 0,
    /** The intent is settled, and its owner has heard of it. */
    committed: 0,
    /** A refused insert is replaced by two in a transaction that is not committed. */
    split: 0,
    /** A refused row is in the dead letters, and Postgres does not know. */
    buried: 0,
  },
  warehouse: {
    /** A statement of a migration of ClickHouse was carried out; its file is not noted. */
    migration_statement: 0,
    /** The file is noted, and the next one has not begun. */
    migration_noted: 0,
  },
  /** Verbs that change what is stored. */
  verbs: {
    /** A deletion is ordered, nothing is done. */
    deletion_asked: 0,
    /** Capture does not know the project's token any more, ingest does. */
    project_closing: 0,
    /** Postgres has nothing of the person any more, or the project is closed, and nothing else says so. */
    deletion_taken: 0,
    /** The positions are noted up to which rows go. */
    deletion_noted: 0,
    /** Rows of a piece are on record as erased, and all there. */
    erasure_recorded: 0,
    /** They are gone, and the record does not say so. */
    erasure_carried_out: 0,
    /** All rows are gone, and the order is still open. */
    deletion_erased: 0,
    /** A page of the project's rows is gone from Postgres, and others are there. */
    project_page_gone: 0,
    /** The overrides to squash are noted, no event says what they say. */
    squash_snapped: 0,
    /** The events of one month do. */
    squash_month_written: 0,
    /** All events do, and the overrides are there still. */
    squash_written: 0,
    /** The overrides are gone, and nothing says so. */
    squash_removed: 0,
  },
} as const
export type CaptureFailpoint = keyof typeof FAILPOINTS.capture
export type IngestFailpoint = keyof typeof FAILPOINTS.ingest
export type LoadFailpoint = keyof typeof FAILPOINTS.load
export type VerbFailpoint = keyof typeof FAILPOINTS.verbs
export type WarehouseFailpoint = keyof typeof FAILPOINTS.warehouse
export type Failpoint =
  | CaptureFailpoint
  | IngestFailpoint
  | LoadFailpoint
  | WarehouseFailpoint
  | VerbFailpoint

/** The longest delay of each place, ms. */
const LATE_MS: Readonly<Record<Failpoint, number>> = {
  ...FAILPOINTS.capture,
  ...FAILPOINTS.ingest,
  ...FAILPOINTS.load,
  ...FAILPOINTS.warehouse,
  ...FAILPOINTS.verbs,
}

/** May end the process here, when a test wants it. */
export const failpoint: (name: Failpoint) => void = armed(
  process.env.HEADRACE_TEST_FAILPOINT,
  Number(process.env.HEADRACE_TEST_SEED ?? Date.now()),
)

function armed(plan: string | undefined, seed: number): (name: Failpoint) => void {
  if (plan === undefined || plan === '') return () => {}
  const { places, afterwards } = readPlan(plan)
  const random = sequence(seed)
  return (name) => {
    const place = places.get(name)
    if (random() >= (place?.chance ?? 0)) return
    const { stops } = place!
    if (stops) places.delete(name)
    const end = () => {
      if (!stops) return die(name)
      stand(name)
      for (const [other, planned] of afterwards) places.set(other, planned)
    }
    const lateMs = LATE_MS[name] * random()
    if (lateMs === 0) end()
    else setTimeout(end, lateMs)
  }
}

type Place = { chance: number; stops: boolean }
/** `afterwards`: of a process that has stood still. */
type Places = Record<'places' | 'afterwards', Map<Failpoint, Place>>

function readPlan(plan: string): Places {
  const read: Places = { places: new Map(), afterwards: new Map() }
  for (const part of plan.split(',')) {
    const [name = '', chance, word] = part.split(':')
    const probability = Number(chance)
    const isKnown = Object.hasOwn(LATE_MS, name) && [undefined, 'stop', 'then'].includes(word)
    if (!isKnown || !(probability >= 0 && probability <= 1)) {
      const names = Object.keys(LATE_MS).join(', ')
      throw new Error(
        `HEADRACE_TEST_FAILPOINT has "${part}"; allowed is name:probability, name:probability:stop or name:probability:then with one of ${names}`,
      )
    }
    const into = word === 'then' ? read.afterwards : read.places
    into.set(name as Failpoint, { chance: probability, stops: word === 'stop' })
  }
  return read
}

function die(name: Failpoint): void {
  writeSync(2, `failpoint ${name}\n`)
  process.kill(process.pid, 'SIGKILL')
}

function stand(name: Failpoint): void {
  writeSync(2, `stopped at ${name}\n`)
  process.kill(process.pid, 'SIGSTOP')
}

/** A repeatable sequence in 0 … 1 (an xorshift of 32 bits). */
function sequence(seed: number): () => number {
  let state = (seed ^ 0x9e3779b9) >>> 0 || 1
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) / 4_294_967_296
  }
}
