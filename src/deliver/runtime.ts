/**
 * A destination as this process works for it: its target, its filter, its circuit and its pace, over all partitions. Made anew when its
 * description changes; what was learned about the receiver stays.
 */
import { NIL_UUID } from '../event/index.ts'
import { Breaker } from './breaker.ts'
import type { Destination } from './destination.ts'
import { compileWhere, type Predicate } from './filter.ts'
import { AddressRules } from './http/address.ts'
import { HttpClient } from './http/client.ts'
import { deliverMetrics } from './metrics.ts'
import { withSecrets } from './options.ts'
import { targetKind } from './targets/index.ts'
import type { Delivery, Target, Verdict } from './targets/target.ts'
import { Throttle } from './throttle.ts'

/** A request that may be sent. */
export type Turn = 'go' | 'probe'

export type RuntimeDeps = {
  http: HttpClient
  clock: () => number
  /** Share of the partitions that this process has: its share of the rate. */
  share: () => number
  /** Is told what is nobody's fault but ours. */
  fault: (what: string, error: unknown) => void
}

export class Runtime {
  readonly matches: Predicate | undefined
  readonly names: ReadonlySet<string> | undefined
  readonly target: Target
  /** Under which the receiver knows its events: a replay sends them under the ids of its original. */
  readonly idsOf: string
  readonly breaker: Breaker
  private readonly throttle: Throttle

  constructor(
    readonly destination: Destination,
    private readonly deps: RuntimeDeps,
    before?: Runtime,
  ) {
    const { config, kind, secrets } = destination
    this.names = config.filter.events ? new Set(config.filter.events) : undefined
    this.matches = compileWhere(config.filter)
    this.idsOf = destination.replayOf ?? destination.id
    const options = withSecrets(config.options, secrets) as Record<string, unknown>
    this.target = targetKind(kind).open(options, {
      http: deps.http,
      destinationId: this.idsOf,
      teamId: destination.teamId,
      timeoutMs: config.timeoutMs,
      clock: deps.clock,
    })
    this.breaker = before?.breaker ?? new Breaker()
    this.throttle = before?.throttle ?? new Throttle(config.concurrency, config.ratePerSecond, deps.clock)
    this.limit()
  }

  /** To what its description says now, and this process's share of it. */
  limit(): void {
    const { ordered, concurrency, ratePerSecond } = this.destination.config
    const width = ordered && this.target.batchMax > 1 ? 1 : concurrency
    this.throttle.limit(width, ratePerSecond === undefined ? undefined : ratePerSecond * this.deps.share())
  }

  get id(): string {
    return this.destination.id
  }

  get active(): boolean {
    return this.destination.state === 'active'
  }

  /** One at a time for each distinct_id. */
  get lanes(): boolean {
    return this.destination.config.ordered && this.target.batchMax === 1
  }

  /** Undefined: nothing is to be sent now; the circuit is open, or `signal` aborted. */
  async turn(signal: AbortSignal): Promise<Turn | undefined> {
    const entered = this.throttle.enter(signal)
    if (entered !== true && !(await entered)) return undefined
    const circuit = signal.aborted ? 0 : this.breaker.enter(this.deps.clock())
    if (typeof circuit === 'string') return circuit
    this.throttle.leave()
    return undefined
  }

  /** A turn that was not used. */
  giveBack(turn: Turn): void {
    this.throttle.leave()
    if (turn === 'probe') this.breaker.giveBack()
  }

  /** Sends with a turn, and learns from the answer. */
  async send(deliveries: readonly Delivery[], signal: AbortSignal): Promise<Verdict[]> {
    const { kind } = this.destination
    const began = performance.now()
    try {
      const verdicts = await this.target.send(deliveries, signal)
      deliverMetrics.requestSeconds.observe({ kind }, (performance.now() - began) / 1_000)
      this.learn(verdicts)
      return verdicts
    } catch (error) {
      // Our own fault with this target or event: it must not end the way of all others. It is tried again, and told.
      this.deps.fault(`destination ${this.destination.name} (${kind}) could not be sent to`, error)
      const response = `our fault: ${(error as Error).message}`.slice(0, 1_000)
      const verdicts = deliveries.map((): Verdict => ({ kind: 'failed', status: 0, response }))
      this.learn(verdicts)
      return verdicts
    } finally {
      this.throttle.leave()
    }
  }

  private learn(verdicts: readonly Verdict[]): void {
    const { kind } = this.destination
    const worked = verdicts.some((one) => one.kind === 'delivered' || one.kind === 'refused')
    if (worked) {
      deliverMetrics.requests.inc({ kind, result: 'taken' })
      this.breaker.succeeded()
      this.throttle.succeeded()
      return
    }
    const busy = verdicts.find((one) => one.kind === 'busy')
    const gone = verdicts.some((one) => one.kind === 'gone')
    deliverMetrics.requests.inc({ kind, result: busy ? 'busy' : gone ? 'gone' : 'failed' })
    this.throttle.failed()
    this.breaker.failed(this.deps.clock(), busy !== undefined || gone, busy?.waitMs ?? 0)
  }
}

/** Throws HR_DESTINATION_INVALID when a destination could not be worked for. */
export function checkTarget(described: Pick<Destination, 'kind' | 'config' | 'secrets'>): void {
  const http = new HttpClient({ rules: new AddressRules() })
  const nobody = {
    id: NIL_UUID,
    teamId: 0,
    name: '',
    state: 'active',
    says: '',
    replayOf: undefined,
  } as const
  const runtime = new Runtime(
    { ...nobody, ...described },
    { http, clock: Date.now, share: () => 1, fault: () => {} },
  )
  void runtime.target.close?.()
}
