/**
 * Orders to send dead letters again, in Postgres: made by the command line, worked on by a capture process, since only
 * capture writes the raw topics. A job is `open`, then `done`, or `stopped` by an error that waiting cannot mend.
 *
 * One runner at a time has the lease of a job and renews it with each step. A runner that was paused beyond its lease
 * finds it gone when it next says something, and lets go; what it still had in flight is caught by dedup.
 */
import { guardState, type Sql, type Transaction, transaction } from '../catalog/index.ts'
import type { Place } from '../event/index.ts'
import { type Decided, lettersToKeep, planLetters } from './decisions.ts'
import type { Letter, LetterFilter, LetterKey } from './letter.ts'

/** Letters of one job: a plan is one transaction. */
export const JOB_LETTERS_MAX = 100_000

export type Job = {
  id: string
  eventsPerSecond: number
}

export type JobStatus = {
  id: string
  state: 'open' | 'done' | 'stopped'
  says: string
  by: string
  why: string
  letters: number
  eventsPerSecond: number
  /** Epoch ms. */
  createdMs: number
  /** A capture process works on it. */
  taken: boolean
  replayed: number
  failed: number
}

export type PlanOptions = Decided & {
  filter: LetterFilter
  eventsPerSecond: number
  again: readonly ('failed' | 'discarded')[]
}

/**
 * Plans the letters of `pages` that have a raw record, as one job. Undefined when there is none left to plan. `cut`: there
 * are more than a job takes. `held`: of so many the person or project is being deleted; they are not planned.
 */
export async function planJob(
  sql: Sql,
  pages: AsyncIterable<Letter[]>,
  options: PlanOptions,
): Promise<{ id: string; letters: number; held: number; cut: boolean } | undefined> {
  const id = Bun.randomUUIDv7()
  const picked: Letter[] = []
  let cut = false
  for await (const page of pages) {
    picked.push(...page.filter(({ hasRecord }) => hasRecord))
    cut = picked.length > JOB_LETTERS_MAX
    if (cut) break
  }
  picked.length = Math.min(picked.length, JOB_LETTERS_MAX)
  if (picked.length === 0) return undefined
  return guardState('plan a replay', () =>
    transaction(sql, async (tx) => {
      await tx`
        INSERT INTO dead_letter_job (id, asked_by, why, filter, events_per_second, letters)
        VALUES (${id}, ${options.by}, ${options.why}, ${JSON.stringify(options.filter)}::text::jsonb,
          ${options.eventsPerSecond}, 0)`
      const kept = await lettersToKeep(tx, picked)
      let letters = 0
      for (let at = 0; at < kept.length; at += PLAN_LETTERS) {
        letters += await planLetters(tx, id, kept.slice(at, at + PLAN_LETTERS), options, options.again)
      }
      if (letters === 0) await tx`DELETE FROM dead_letter_job WHERE id = ${id}`
      else await tx`UPDATE dead_letter_job SET letters = ${letters} WHERE id = ${id}`
      return letters === 0 ? undefined : { id, letters, held: picked.length - kept.length, cut }
    }),
  )
}

const PLAN_LETTERS = 5_000

/** Takes the open job that waits longest and that nobody works on; undefined when there is none. */
export async function takeJob(sql: Sql, runner: string, leaseMs: number): Promise<Job | undefined> {
  return guardState('look for dead letters to send again', async () => {
    const [row] = await sql<{ id: string; events_per_second: number }[]>`
      UPDATE dead_letter_job SET runner = ${runner}, heard_at = now()
      WHERE id = (
        SELECT id FROM dead_letter_job
        WHERE state = 'open' AND (runner IS NULL OR runner = ${runner} OR heard_at < now() - ${leaseMs} * interval '1 ms')
        ORDER BY coalesce(heard_at, created_at), created_at LIMIT 1 FOR UPDATE SKIP LOCKED)
      RETURNING id, events_per_second`
    return row && { id: row.id, eventsPerSecond: row.events_per_second }
  })
}

/** Says that the runner is at work and what it waits for; throws LeaseLost. */
export async function renew(sql: Sql, job: Job, runner: string, says = ''): Promise<void> {
  await guardState('hold a replay', () => hold(sql, job, runner, says))
}

/** Unguarded: a transaction has to see what the driver says of its connection. */
async function hold(tx: Sql | Transaction, job: Job, runner: string, says: string): Promise<void> {
  const done = await tx`
    UPDATE dead_letter_job SET heard_at = now(), says = ${says}
    WHERE id = ${job.id} AND runner = ${runner} AND state = 'open'`
  if (done.count === 0) throw new LeaseLost()
}

/** Another runner has the job. */
export class LeaseLost extends Error {}

/** Lets go of a job that is not finished, so that another runner can have it at once, and other jobs go first. */
export async function releaseJob(sql: Sql, job: Job, runner: string, says = ''): Promise<void> {
  await guardState(
    'let go of a replay',
    () => sql`
      UPDATE dead_letter_job SET runner = NULL, heard_at = now(), says = ${says}
      WHERE id = ${job.id} AND runner = ${runner} AND state = 'open'`,
  )
}

export async function endJob(sql: Sql, job: Job, runner: string, stoppedBy?: string): Promise<void> {
  await guardState(
    'end a replay',
    () => sql`
      UPDATE dead_letter_job SET state = ${stoppedBy === undefined ? 'done' : 'stopped'}, says = ${stoppedBy ?? ''},
        ended_at = now(), runner = NULL
      WHERE id = ${job.id} AND runner = ${runner}`,
  )
}

/** Its runner finds out with its next chunk. Letters that were not sent stay with the job. False when it is not open. */
export async function stopJob(sql: Sql, id: string): Promise<boolean> {
  const done = await guardState(
    'stop a replay',
    () => sql`
      UPDATE dead_letter_job SET state = 'stopped', says = 'by a person', ended_at = now(), runner = NULL
      WHERE id = ${id} AND state = 'open'`,
  )
  return done.count > 0
}

/** Opens a stopped job again; what its runner may have sent is looked for first. False when it is not stopped. */
export async function resumeJob(sql: Sql, id: string): Promise<boolean> {
  const done = await guardState(
    'resume a replay',
    () => sql`
      UPDATE dead_letter_job SET state = 'open', says = '', ended_at = NULL, runner = NULL
      WHERE id = ${id} AND state = 'stopped'`,
  )
  return done.count > 0
}

/** A letter of a job with what is needed to find its bytes. */
export type JobLetter = LetterKey & { teamId: number; atMs: number; bytes: number }

type JobLetterRow = {
  log_id: string
  partition: number
  raw_offset: number
  sub: number
  step: string
  team_id: number
  letter_ms: number
  bytes: number
}

/** A raw partition that letters come from. */
export type LetterPart = { logId: string; partition: number }

/** The next planned letters of one raw partition, none of `except`, in the order in which they were captured. */
export async function nextLetters(
  sql: Sql,
  job: Job,
  limit: number,
  except: readonly LetterPart[],
): Promise<JobLetter[]> {
  const rows = await guardState(
    'read the letters of a replay',
    () => sql<JobLetterRow[]>`
      SELECT log_id, partition, raw_offset, sub, step, team_id, letter_ms, bytes FROM dead_letter_decision
      WHERE job_id = ${job.id} AND state = 'planned' AND NOT EXISTS (
        SELECT FROM jsonb_to_recordset(${JSON.stringify(except)}::text::jsonb) AS x("logId" uuid, partition integer)
        WHERE x."logId" = log_id AND x.partition = dead_letter_decision.partition)
      ORDER BY log_id, partition, raw_offset, sub, step LIMIT ${limit}`,
  )
  const [first] = rows
  return rows
    .filter((row) => row.log_id === first!.log_id && row.partition === first!.partition)
    .map(jobLetterOf)
}

/** Letters that a sender meant to send to one partition, and of which nobody knows whether it did. */
export type Doubtful = { logId: string; partition: number; from: number; letters: JobLetter[] }

export async function doubtfulLetters(sql: Sql, job: Job): Promise<Doubtful[]> {
  const rows = await guardState(
    'read the letters of a replay',
    () => sql<(JobLetterRow & { sent_log_id: string; sent_from: number })[]>`
      SELECT log_id, partition, raw_offset, sub, step, team_id, letter_ms, bytes, sent_log_id, sent_from
      FROM dead_letter_decision WHERE job_id = ${job.id} AND state = 'sending' ORDER BY raw_offset, sub, step`,
  )
  const groups = new Map<string, Doubtful>()
  for (const row of rows) {
    const key = `${row.sent_log_id}/${row.partition}`
    const group = groups.get(key) ?? {
      logId: row.sent_log_id,
      partition: row.partition,
      from: row.sent_from,
      letters: [],
    }
    group.from = Math.min(group.from, row.sent_from)
    group.letters.push(jobLetterOf(row))
    groups.set(key, group)
  }
  return [...groups.values()]
}

export type Change =
  | { state: 'planned' }
  | { state: 'sending'; logId: string; from: number }
  | { state: 'replayed'; place: Pick<Place, 'offset'> }
  | { state: 'failed'; detail: string }

/** Moves letters of a job on, and renews its lease, in one transaction; throws LeaseLost. */
export async function moveLetters(
  sql: Sql,
  job: Job,
  runner: string,
  changes: readonly (readonly [LetterKey, Change])[],
): Promise<void> {
  const json = changes.map(([key, change]) => ({
    l: key.logId,
    p: key.partition,
    o: key.offset,
    u: key.sub,
    e: key.step,
    s: change.state,
    t: change.state === 'sending' ? change.logId : null,
    f: change.state === 'sending' ? change.from : null,
    a: change.state === 'replayed' ? change.place.offset : null,
    d: change.state === 'failed' ? change.detail : '',
  }))
  await guardState('note what became of dead letters', () =>
    transaction(sql, async (tx) => {
      await hold(tx, job, runner, '')
      await tx`
        UPDATE dead_letter_decision d
        SET state = c.s, detail = c.d, sent_offset = c.a, changed_at = now(),
          sent_log_id = CASE c.s WHEN 'sending' THEN c.t WHEN 'replayed' THEN d.sent_log_id END,
          sent_from = CASE c.s WHEN 'sending' THEN c.f WHEN 'replayed' THEN d.sent_from END
        FROM jsonb_to_recordset(${JSON.stringify(json)}::text::jsonb)
          AS c(l uuid, p integer, o bigint, u integer, e text, s text, t uuid, f bigint, a bigint, d text)
        WHERE d.log_id = c.l AND d.partition = c.p AND d.raw_offset = c.o AND d.sub = c.u AND d.step = c.e
          AND d.job_id = ${job.id} AND d.state IN ('planned', 'sending')`
    }),
  )
}

type StatusRow = {
  id: string
  state: JobStatus['state']
  says: string
  asked_by: string
  why: string
  letters: number
  events_per_second: number
  created_at: Date
  taken: boolean
  replayed: number
  failed: number
}

/** One job, or the newest ones. */
export async function jobStatus(sql: Sql, id?: string, limit = 20): Promise<JobStatus[]> {
  const rows = await guardState(
    'read replays',
    () => sql<StatusRow[]>`
      SELECT j.id, j.state, j.says, j.asked_by, j.why, j.letters, j.events_per_second, j.created_at,
        j.runner IS NOT NULL AS taken,
        (SELECT count(*) FROM dead_letter_decision d WHERE d.job_id = j.id AND d.state = 'replayed')::int AS replayed,
        (SELECT count(*) FROM dead_letter_decision d WHERE d.job_id = j.id AND d.state = 'failed')::int AS failed
      FROM dead_letter_job j WHERE ${id ?? null}::uuid IS NULL OR j.id = ${id ?? null}::uuid
      ORDER BY j.created_at DESC LIMIT ${limit}`,
  )
  return rows.map((row) => ({
    id: row.id,
    state: row.state,
    says: row.says,
    by: row.asked_by,
    why: row.why,
    letters: row.letters,
    eventsPerSecond: row.events_per_second,
    createdMs: row.created_at.getTime(),
    taken: row.taken,
    replayed: row.replayed,
    failed: row.failed,
  }))
}

function jobLetterOf(row: JobLetterRow): JobLetter {
  return {
    logId: row.log_id,
    partition: row.partition,
    offset: row.raw_offset,
    sub: row.sub,
    step: row.step,
    teamId: row.team_id,
    atMs: row.letter_ms,
    bytes: row.bytes,
  }
}
