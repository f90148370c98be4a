/**
 * One user transformation, ready for batches. In: events. Out: one outcome for each, in order. What must hold: the
 * outcome of an event that is cut (too long, too much memory) is its own: it is decided in a realm that has run
 * nothing before, whatever its neighbours did, so that a replay in other batches decides alike; the events before and
 * after it are unharmed. Cost: two texts across the border per event; a cut costs the budget of an event, twice when
 * it is not the first of its realm, and a new realm.
 *
 *   call ── answer ──▶ outcome
 *     └──── cut ──▶ new realm ── was it the first event there? ── yes ──▶ failed
 *                                                              └─ no ───▶ call again
 *
 * Module variables of user code live as long as their realm, which may end at any time: nothing may rest on them.
 */
import { isDeeperThan, type Json } from '../event/index.ts'
import { pause } from '../platform/index.ts'
import { type Allowance, SUSPENDED } from './allowance.ts'
import { type CompiledTransformation, sourceLine } from './compile.ts'
import { type PlainChange, readEvents, readPlain, UNIT } from './crossing.ts'
import { transformError } from './errors.ts'
import { ask, type HostHelpers } from './helpers.ts'
import type { FailureKind, TransformEvent, TransformFailure, TransformOutcome } from './outcome.ts'
import { CODE_NAME, Instance, Realm, type RealmLimits, type Reply } from './realm.ts'

/** That one event may become, by one step or by all. */
export const EVENTS_MAX = 100

export const SANDBOX_LIMITS: RealmLimits = {
  interruptsMax: 50,
  clockMsMax: 2_000,
  memoryBytesMax: 32 * 1024 * 1024,
  stackBytesMax: 256 * 1024,
  outputCharsMax: 1_000_000,
  eventsMax: EVENTS_MAX,
  levelsMax: 400,
  logLinesMax: 100,
  logCharsMax: 1_000,
  helperCallsMax: 1_000,
  argumentCharsMax: 100_000,
}

export type LogLine = { readonly uuid: string; readonly text: string }

export type SandboxResult = {
  /** One for each event, in order. */
  readonly outcomes: readonly TransformOutcome[]
  /** What `log` was given, at most `logLinesMax` lines. */
  readonly logs: readonly LogLine[]
  /** Realms thrown away. */
  readonly rebuilds: number
}

/** What a batch of live traffic may take, beside what each event may. */
export type BatchLimits = {
  readonly allowance: Allowance
  /** Characters of all that one step answers. */
  readonly outputCharsMax: number
}

/** What a batch of several events comes to is more than it may hold in memory: it must be cut. */
export class OutputTooLarge extends Error {
  override readonly name = 'OutputTooLarge'
}

const MEMORY: Reply = { kind: 'memory' }

export class Sandbox {
  readonly #compiled: CompiledTransformation
  readonly #helpers: HostHelpers
  readonly #limits: RealmLimits
  #instance: Instance
  /** None after a rebuild that failed, so that the next batch tries again. */
  #realm: Realm | undefined
  #logs: LogLine[] = []
  #uuid = ''
  #hostFailure: { cause: unknown } | undefined
  #running = false
  #rebuilds = 0
  /** Of the event at hand, in all tries. */
  #interrupts = 0

  /** HR_TRANSFORM_START when the module cannot start. */
  static async open(
    compiled: CompiledTransformation,
    helpers: HostHelpers,
    limits: RealmLimits = SANDBOX_LIMITS,
  ): Promise<Sandbox> {
    return new Sandbox(await Instance.create(limits.memoryBytesMax), compiled, helpers, limits)
  }

  private constructor(
    instance: Instance,
    compiled: CompiledTransformation,
    helpers: HostHelpers,
    limits: RealmLimits,
  ) {
    this.#instance = instance
    this.#compiled = compiled
    this.#helpers = helpers
    this.#limits = limits
    this.#realm = this.#build()
  }

  #build(): Realm {
    const realm = new Realm(this.#instance, this.#limits, (name, values) => this.#answer(name, values))
    const wrong = realm.start(this.#compiled.code)
    if (wrong === undefined) return realm
    realm.dispose()
    throw transformError('HR_TRANSFORM_START', `the transformation does not start: ${wrong}`)
  }

  /** One batch at a time. Rejects with what a helper threw. */
  async run(events: readonly TransformEvent[], limits?: BatchLimits): Promise<SandboxResult> {
    if (this.#running) throw new Error('a sandbox runs one batch at a time')
    this.#running = true
    this.#logs = []
    this.#rebuilds = 0
    try {
      if (!this.#realm) await this.#renew()
      this.#realm!.begin()
      const outcomes: TransformOutcome[] = []
      let chars = 0
      for (const event of events) {
        if (limits?.allowance.isSpent) {
          outcomes.push({ kind: 'suspended', failure: SUSPENDED })
          continue
        }
        this.#interrupts = 0
        const reply = this.#call(event)
        outcomes.push(isWhole(reply) ? this.#outcome(event, reply.text) : await this.#afterCut(event, reply))
        if (!limits) continue
        limits.allowance.spend(this.#interrupts)
        if (isWhole(reply)) chars += reply.text.length
        if (chars > limits.outputCharsMax && events.length > 1)
          throw new OutputTooLarge(`${events.length} events became over ${limits.outputCharsMax} characters`)
      }
      if (this.#realm?.hasPendingJobs) await this.#rebuild(false)
      return { outcomes, logs: this.#logs, rebuilds: this.#rebuilds }
    } finally {
      this.#running = false
    }
  }

  async #afterCut(event: TransformEvent, cut: Reply): Promise<TransformOutcome> {
    const first = this.#realm!.calls === 1
    await this.#rebuild(cut.kind === 'trap')
    if (first) return failed(this.#failureOf(cut))
    const again = this.#call(event)
    if (isWhole(again)) return this.#outcome(event, again.text)
    await this.#rebuild(again.kind === 'trap')
    return failed(this.#failureOf(again))
  }

  /** Lets others run, too: a batch of events that are all cut takes seconds. */
  async #rebuild(trapped: boolean): Promise<void> {
    this.#rebuilds++
    const old = this.#realm
    this.#realm = undefined
    if (trapped) await this.#renew()
    else {
      old?.dispose()
      try {
        this.#realm = this.#build()
      } catch {
        // It did start before: what is left of the memory is too little, or in pieces.
        await this.#renew()
      }
    }
    await pause(0)
  }

  async #renew(): Promise<void> {
    try {
      this.#instance = await Instance.create(this.#limits.memoryBytesMax)
      this.#realm = this.#build()
    } catch (cause) {
      throw transformError(
        'HR_TRANSFORM_SANDBOX',
        `the sandbox cannot be built again: ${(cause as Error).message}`,
        cause,
      )
    }
  }

  #call(event: TransformEvent): Reply {
    const logged = this.#logs.length
    this.#uuid = event.uuid
    this.#hostFailure = undefined
    let reply = this.#realm!.call(event)
    if (reply.kind === 'text' && this.#realm!.isHeavyAsJson) {
      // What crosses how must not decide whether it is cut, so it is asked again the one way that does.
      this.#interrupts += this.#realm!.interrupts
      this.#logs.length = logged
      reply = this.#realm!.call(event, false)
    }
    this.#interrupts += this.#realm!.interrupts
    if (this.#hostFailure) throw (this.#hostFailure as { cause: unknown }).cause
    // A reply that says it found no memory is a cut like the others.
    const whole =
      reply.kind === 'text' &&
      !reply.text.startsWith('Ememory') &&
      !(reply.text.startsWith('Enull') && this.#instance.isFull)
    if (!whole) this.#logs.length = logged
    return whole || reply.kind !== 'text' ? reply : MEMORY
  }

  #outcome(event: TransformEvent, text: string): TransformOutcome {
    switch (text[0]) {
      case 'D':
        return DROPPED
      case 'S':
        return { kind: 'kept', events: [event] }
      case 'R':
        return this.#keptPlain(readPlain(event, text))
      case 'K':
      case 'A':
        return this.#kept(readEvents(event, text.slice(1)))
      default: {
        const [kind, message, stack] = text.slice(1).split(UNIT)
        return failed({
          kind: kind === 'null' ? 'exception' : (kind as FailureKind),
          message: JSON.parse(message!) as string,
          line: this.#lineOf(JSON.parse(stack!) as string),
        })
      }
    }
  }

  #keptPlain({ event, changed }: PlainChange): TransformOutcome {
    const outcome = this.#kept([event])
    return outcome.kind === 'kept' ? { ...outcome, changed } : outcome
  }

  #kept(events: readonly TransformEvent[]): TransformOutcome {
    const { levelsMax } = this.#limits
    if (!events.some(({ properties }) => isDeeperThan(levelsMax, properties))) return { kind: 'kept', events }
    const message = `what it returned is nested deeper than ${levelsMax} levels`
    return failed({ kind: 'output', message, line: undefined })
  }

  #failureOf(cut: Reply): TransformFailure {
    switch (cut.kind) {
      case 'timeout':
        return { kind: 'timeout', message: 'it ran longer than one event may', line: undefined }
      case 'trap':
        return { kind: 'memory', message: `it broke the interpreter: ${cut.message}`, line: undefined }
      default:
        return {
          kind: 'memory',
          message: `it wanted more than ${this.#limits.memoryBytesMax / 1024 / 1024} MB of memory`,
          line: undefined,
        }
    }
  }

  #lineOf(stack: string): number | undefined {
    const at = stack.indexOf(`${CODE_NAME}:`)
    if (at < 0) return undefined
    const [line, column] = stack.slice(at + CODE_NAME.length + 1, at + CODE_NAME.length + 20).split(':')
    return sourceLine(this.#compiled, Number.parseInt(line!, 10), Number.parseInt(column ?? '', 10) || 1)
  }

  #answer(name: string, values: string): string {
    try {
      const given = JSON.parse(values) as string[]
      return JSON.stringify(this.#help(name, given) ?? null)
    } catch (cause) {
      this.#hostFailure ??= { cause }
      return 'null'
    }
  }

  #help(name: string, values: string[]): Json {
    if (name !== 'log') return ask(this.#helpers, name, values) ?? null
    // A new realm counts anew, so the batch's bound is kept here.
    if (this.#logs.length < this.#limits.logLinesMax) this.#logs.push({ uuid: this.#uuid, text: values[0]! })
    return null
  }

  /** No batch may be running. */
  close(): void {
    this.#realm?.dispose()
    this.#realm = undefined
  }
}

const DROPPED: TransformOutcome = { kind: 'dropped' }

function failed(failure: TransformFailure): TransformOutcome {
  return { kind: 'failed', failure }
}

function isWhole(reply: Reply): reply is Extract<Reply, { kind: 'text' }> {
  return reply.kind === 'text'
}
