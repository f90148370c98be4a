/**
 * Places where a fault test lets a process die. In: `HEADRACE_TEST_FAILPOINT`, as it was when the process started, such
 * as `after_read:0.01,acked:0.2`: the probability with which each call kills this process with SIGKILL, as a power cut
 * would, after one line on standard error that names the place. `HEADRACE_TEST_SEED` makes the choice repeatable.
 *
 * Must hold: without the variable a call is a call of an empty function, and nothing can bring it to life later. One
 * call per request, group or batch, never per event.
 */
import { writeSync } from 'node:fs'

/** Every place; a value above 0 = the kill comes so many ms later at most, while the work is under way. */
export const FAILPOINTS = {
  /** Capture: the whole body of a request is in memory. */
  after_read: 0,
  /** Capture: the events of a request are judged, none is handed to the writer. */
  parsed: 0,
  /** Capture: a group was handed to the log's producer; it is on its way, in the log, or just acknowledged. */
  produce_sent: 6,
  /** Capture: the log has acknowledged a group, and nobody was told. */
  acked: 0,
  /** Capture: the answer to a request is made and not sent. */
  before_answer: 0,
  /** Capture: a group is durable in the spool, and nobody was told. */
  spool_appended: 0,
  /** Capture: a batch of the spool was handed to the log's producer; as `produce_sent`. */
  drain_sent: 6,
  /** Capture: a batch of the spool is in the log, and the spool's position does not say so. */
  drained_before_position: 0,
} as const
export type Failpoint = keyof typeof FAILPOINTS

/** May end the process here, when a test wants it. */
export const failpoint: (name: Failpoint) => void = armed(
  process.env.HEADRACE_TEST_FAILPOINT,
  Number(process.env.HEADRACE_TEST_SEED ?? Date.now()),
)

function armed(plan: string | undefined, seed: number): (name: Failpoint) => void {
  if (plan === undefined || plan === '') return () => {}
  const chances = readPlan(plan)
  const random = sequence(seed)
  return (name) => {
    if (random() >= (chances.get(name) ?? 0)) return
    const lateMs = FAILPOINTS[name] * random()
    if (lateMs === 0) die(name)
    else setTimeout(die, lateMs, name)
  }
}

function readPlan(plan: string): Map<Failpoint, number> {
  const chances = new Map<Failpoint, number>()
  for (const part of plan.split(',')) {
    const [name = '', chance] = part.split(':')
    const probability = Number(chance)
    if (!Object.hasOwn(FAILPOINTS, name) || !(probability >= 0 && probability <= 1)) {
      const names = Object.keys(FAILPOINTS).join(', ')
      throw new Error(
        `HEADRACE_TEST_FAILPOINT has "${part}"; allowed is name:probability with one of ${names}`,
      )
    }
    chances.set(name as Failpoint, probability)
  }
  return chances
}

function die(name: Failpoint): void {
  writeSync(2, `failpoint ${name}\n`)
  process.kill(process.pid, 'SIGKILL')
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
