/**
 * The crash test: load from outside, random roles killed (SIGKILL) or paused (SIGSTOP) at random moments while it
 * runs, then the invariants by uuid and by source. Works on anything that looks like `Victim`: the product on one
 * machine, or roles as separate processes on Kafka.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { checkInvariants, checkPersons, untilAllStored, type Verdict } from './check.ts'
import { Generator, type GeneratorOptions } from './generator.ts'

export type Victim = {
  captureUrl: string
  token: string
  pids(): Promise<Record<string, number>>
  sql<T = Record<string, unknown>>(query: string): Promise<T[]>
  ready(withinMs?: number): Promise<void>
  run(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }>
}

export type CrashOptions = {
  runs: number
  /** Roles that may be hit, by name as in `pids()`. */
  roles: string[]
  /** One hit in this many is a pause instead of a kill; 0 = never. */
  pauseEvery: number
  pauseMs: number
  load: Omit<GeneratorOptions, 'captureUrl' | 'token'>
  /** 0 … 1; the choice of role and moment. */
  random: () => number
  say(line: string): void
}

export type CrashReport = Verdict & {
  kills: number
  pauses: number
  refusals: Record<string, number>
  catchUpMs: number
  byRole: Record<string, number>
}

/** Between two hits. */
const BETWEEN_MS_MIN = 300
const BETWEEN_MS_MAX = 3_500
const CAUGHT_UP_MS_MAX = 180_000
const READY_MS_MAX = 60_000
const SETTLED_MS_MAX = 30_000

/** Throws when an invariant does not hold, with its number and the uuids. */
export async function crash(victim: Victim, options: CrashOptions): Promise<CrashReport> {
  const { random, say } = options
  const generator = new Generator({ captureUrl: victim.captureUrl, token: victim.token, ...options.load })
  const byRole: Record<string, number> = {}
  const paused: Promise<void>[] = []
  let kills = 0
  for (let run = 1; run <= options.runs; run++) {
    await delay(BETWEEN_MS_MIN + random() * (BETWEEN_MS_MAX - BETWEEN_MS_MIN))
    const role = options.roles[Math.floor(random() * options.roles.length)]!
    const pause = options.pauseEvery > 0 && run % options.pauseEvery === 0
    const pid = await pidOf(victim, role)
    if (pid === undefined) {
      run--
      continue
    }
    byRole[role] = (byRole[role] ?? 0) + 1
    if (pause) paused.push(stopAWhile(pid, options.pauseMs))
    else {
      signal(pid, 'SIGKILL')
      kills++
    }
    if (run % 10 === 0 || run === options.runs)
      say(`${run}/${options.runs} hits, ${generator.acked} events acknowledged`)
  }
  await Promise.all(paused)
  await generator.stop()
  await victim.ready(READY_MS_MAX)
  const started = performance.now()
  const query = (sql: string) => victim.sql(sql) as Promise<never[]>
  await untilAllStored(query, generator.sent, CAUGHT_UP_MS_MAX)
  const catchUpMs = Math.round(performance.now() - started)
  const verdict = await checkInvariants(query, generator.sent)
  // State rows and audit have inserts and transactions of their own, which may be a moment behind the events.
  await eventually(() => checkPersons(query, generator.sent))
  await eventually(() => auditIsExact(victim))
  return {
    ...verdict,
    kills,
    pauses: paused.length,
    refusals: Object.fromEntries(generator.refusals),
    catchUpMs,
    byRole,
  }
}

/** The role may be down at this moment, or the supervisor too busy to answer. */
async function pidOf(victim: Victim, role: string): Promise<number | undefined> {
  try {
    return (await victim.pids())[role]
  } catch {
    return undefined
  }
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name)
  } catch (error) {
    // It ended by itself between the question and the signal.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

async function stopAWhile(pid: number, ms: number): Promise<void> {
  signal(pid, 'SIGSTOP')
  await delay(ms)
  signal(pid, 'SIGCONT')
}

/** I4, by the product's own proof. */
async function auditIsExact(victim: Victim): Promise<void> {
  const audit = await victim.run('audit', '--json')
  if (audit.code !== 0) throw new Error(`I4: audit ends with ${audit.code}: ${audit.stdout}${audit.stderr}`)
}

/** Checks until it holds; past the deadline what it last said is the failure. */
async function eventually(check: () => Promise<void>): Promise<void> {
  for (const until = performance.now() + SETTLED_MS_MAX; ; ) {
    try {
      await check()
      return
    } catch (error) {
      if (performance.now() > until) throw error
      await delay(1_000)
    }
  }
}

/** A repeatable sequence in 0 … 1 (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }
}
