/**
 * Owns one partition number, both lanes, for as long as the group says so.
 *
 *            ┌──────────── retriable failure, or the fence moved: back off ────────────┐
 *            ▼                                                                         │
 *   opening ──▶ replaying (receipts not known to be produced) ──▶ running ─────────────┤
 *                                                                  │    gap, changed:  ▼
 *                                                                  │    halted (one sentence, looked at again)
 *                         stop() from any state ──▶ stopped        └─▶ unknown error: fatal, the process ends
 *
 * What must hold: batch n + 1 is not produced before batch n is acknowledged; the fence moves only in the
 * transaction that applies the batch; the dedup index is written after it; a position that is in doubt (a commit
 * whose answer was cut, a send that failed) is settled by opening again, where the receipts say what happened.
 */
import { randomUUID } from 'node:crypto'
import { FIRST_GENERATION, type Settings, type Sql } from '../catalog/index.ts'
import { HeadraceError, isRejected, isRetriable, TOPICS, type Warning } from '../event/index.ts'
import type { Log, Position, Producer, SendRecord, StoredRecord } from '../log/index.ts'
import type { Logger } from '../observe/index.ts'
import { type Backoff, backoffMs, failpoint, pause, Signal } from '../platform/index.ts'
import {
  type Decision,
  finishBatch,
  type Judge,
  type JudgeCookieless,
  judgeBatch,
  openBatch,
  rowSlots,
} from './batch.ts'
import { batchRequests } from './batch-requests.ts'
import { refuseStateBehind } from './behind.ts'
import { rangeChecksum } from './checksum.ts'
import { type FactsOf, judge } from './cookieless/index.ts'
import { catchUp } from './dedup/catch-up.ts'
import type { ClaimRequest, Claims } from './dedup/claims.ts'
import { LaneTimes, nextAppended } from './dedup/lane-times.ts'
import { LostOffsets } from './dedup/lost-offsets.ts'
import { lackingClaims } from './dedup/window.ts'
import {
  type LaneId,
  type LanePosition,
  markProduced,
  name,
  openFence,
  refuseOtherRecords,
  takeOver,
  unproducedReceipts,
} from './fence.ts'
import type { Gate } from './gate.ts'
import { BatchTooLarge } from './identity/errors.ts'
import type { BatchReceipt, CommittedBatch, Identity, Stamp } from './identity/types.ts'
import { LaneInput } from './lane-input.ts'
import { countBatch, countWait, ingestMetrics, showDedup } from './metrics.ts'
import { type EventRows, encodeRows, makeReceipt, type OutputLane, outputRecords } from './output.ts'
import { OutputMarks } from './output-marks.ts'
import { piecesOf } from './pieces.ts'
import { identityOptionsOf } from './project-options.ts'
import { openOnes, type ProjectsOf } from './projects.ts'
import { prepareRedo, Redo } from './redo.ts'
import { reopenMs } from './reopen.ts'
import { replayRecords } from './replay.ts'
import type { Transformations } from './transformations.ts'

export type WorkerDeps = {
  settings: Settings
  log: Log
  sql: Sql
  identity: Identity
  producer: Producer
  projectsOf: ProjectsOf
  cookielessFacts: FactsOf
  transformations: Pick<Transformations, 'current' | 'at'>
  openClaims(partition: number): Claims
  /** Told where a lane stands as soon as it is known: from then on retention keeps what the lane has not read. */
  stands(position: Position): void
  /** Both lanes of this deployment, the live one first. */
  lanes: { logId: string; topic: string }[]
  partitions: number
  rowBytesMax: number
  gate: Gate
  logger: Logger
  /** Ends the process: we are at fault. */
  fatal(error: unknown): void
}

const BACKOFF: Backoff = { firstMs: 100, maxMs: 5_000 }
/** A halted partition is looked at again, so that a repair needs no restart. */
const HALTED_MS = 10_000
/** After this long without a batch Postgres is told what was produced. */
const IDLE_MARK_MS = 500
const LOSSES_EVERY_MS = 60_000

export class PartitionWorker {
  private readonly stopping = new AbortController()
  private readonly arrived = new Signal()
  private readonly done: Promise<void>
  private inputs: LaneInput[] = []
  private claims: Claims | undefined
  /** While open. */
  private times: LaneTimes | undefined
  /** ms, monotonic. */
  private lossesReadMs = 0
  /** Changes with each opening; the fences take no batch of a former one. */
  private owner = ''
  /** While open. */
  private marks: OutputMarks | undefined
  /** By log id: what a repair has told us to decide once more. */
  private readonly redo = new Map<string, Redo>()
  /** One sentence while the partition is halted or waits for something. */
  trouble: string | undefined

  constructor(
    readonly partition: number,
    private readonly deps: WorkerDeps,
  ) {
    this.done = this.run()
  }

  /** Finishes the batch at hand, or gives it up at the next point where that is safe. */
  stop(): Promise<void> {
    this.stopping.abort()
    void this.closeInputs()
    return this.done
  }

  private get stopped(): boolean {
    return this.stopping.signal.aborted
  }

  private async run(): Promise<void> {
    let failures = 0
    while (!this.stopped) {
      try {
        await this.open()
        this.trouble = undefined
        ingestMetrics.halted.remove({ partition: String(this.partition) })
        failures = 0
        await this.work()
      } catch (error) {
        if (this.stopped) break
        const waitMs = this.judgeFailure(error, ++failures)
        if (waitMs === undefined) break
        await this.pause(waitMs)
      } finally {
        await this.close()
      }
    }
    ingestMetrics.halted.remove({ partition: String(this.partition) })
  }

  /** How long to wait before opening again; undefined when the process must end. */
  private judgeFailure(error: unknown, failures: number): number | undefined {
    const code = error instanceof HeadraceError ? error.code : undefined
    if (code !== undefined && HALTING.has(code)) {
      this.trouble = `partition ${this.partition} is halted: ${(error as Error).message}`
      ingestMetrics.halted.set({ partition: String(this.partition) }, 1)
      this.deps.logger.error(
        { code, partition: this.partition, docs: 'docs/runbooks/ingest-halted.md' },
        this.trouble,
      )
      return HALTED_MS
    }
    if (isRetriable(error) || (code !== undefined && WAITING.has(code))) {
      this.trouble = `partition ${this.partition} waits: ${(error as Error).message}`
      ingestMetrics.retries.inc({ code: code! })
      this.deps.logger.warn({ code, partition: this.partition }, this.trouble)
      return reopenMs(code, failures)
    }
    this.deps.fatal(error)
    return undefined
  }

  /** Ownership of both lanes; then for each of them fence, dedup index, replay, reader, in this order. */
  private async open(): Promise<void> {
    const { deps, partition } = this
    const claims = deps.openClaims(partition)
    this.claims = claims
    const lanes: LaneId[] = deps.lanes.map(({ logId, topic }) => ({ logId, topic, partition }))
    this.owner = randomUUID()
    const standing = await takeOver(deps.sql, lanes, this.owner)
    // Also of a partition that halts below: repair will need what it has not read.
    for (const { topic, producedThrough } of standing)
      deps.stands({ topic, partition, offset: producedThrough })
    this.marks = await OutputMarks.open(deps.log, partition)
    await refuseStateBehind(deps, deps.lanes, partition, (logId) => claims.completeTo(logId))
    const opened: { id: LaneId; position: LanePosition }[] = []
    for (const id of lanes) {
      const position = await openFence(deps.sql, deps.log, id, this.owner)
      if (this.stopped) return
      if (!standing.some(({ topic }) => topic === id.topic))
        deps.stands({ topic: id.topic, partition, offset: position.producedThrough })
      await refuseOtherRecords(deps.sql, deps.log, id, position)
      opened.push({ id, position })
    }
    // After the fences: what a repair gave up is there before the fence that it moved.
    await this.readLosses()
    // An index that is made anew from the log must not keep what the first batch would let go.
    claims.reached(await nextAppended(deps.log, opened))
    for (const { id, position } of opened) {
      await this.catchUp(claims, id, position.nextOffset)
      if (this.stopped) return
      await this.replay(id, position)
      const redo = await Redo.open(deps.sql, id, position.nextOffset)
      if (redo) this.redo.set(id.logId, redo)
      const reader = deps.log.reader({ topic: id.topic, partition, from: position.nextOffset })
      this.inputs.push(
        new LaneInput(
          id,
          id.topic === TOPICS.rawHistorical,
          reader,
          { ...position, producedThrough: position.nextOffset },
          () => this.arrived.notify(),
        ),
      )
    }
    this.times = new LaneTimes(deps.log, this.inputs)
  }

  /** An operator may give up rows while we work. */
  private async readLosses(): Promise<void> {
    this.claims!.lost = await LostOffsets.read(this.deps.sql, this.partition)
    this.lossesReadMs = performance.now()
  }

  private async catchUp(claims: Claims, id: LaneId, fence: number): Promise<void> {
    const { deps, partition } = this
    const { read, lacking } = await catchUp(claims, deps, id, fence, this.stopping.signal)
    if (read > 0)
      deps.logger.info({ partition, topic: id.topic, offsets: read }, 'dedup index brought up to the fence')
    const windowMs = deps.settings.dedupWindowHours * 3_600_000
    if (lacking && lacking.sinceMs > Date.now() - windowMs)
      deps.logger.warn({ partition }, lackingClaims(name(id), lacking.offsets, lacking.sinceMs))
  }

  private async replay(id: LaneId, position: Awaited<ReturnType<typeof openFence>>): Promise<void> {
    if (position.producedThrough === position.nextOffset) return
    const { deps } = this
    for (const receipt of await unproducedReceipts(deps.sql, id, position)) {
      const output = this.outputLane(id, receipt.configVersion)
      const judge = this.claims!.judge.bind(this.claims)
      const records = await replayRecords({ ...deps, judge }, id, output, receipt)
      for (const piece of piecesOf(records)) {
        const sent = deps.producer.send(piece)
        failpoint('replay_sent')
        await sent
      }
      failpoint('replay_before_mark')
      await markProduced(deps.sql, id, receipt.toOffset)
      ingestMetrics.replayed.inc(receipt.toOffset - receipt.fromOffset)
      deps.logger.info(
        { partition: this.partition, topic: id.topic, from: receipt.fromOffset, to: receipt.toOffset },
        'batch produced again',
      )
    }
  }

  private async work(): Promise<void> {
    const { settings } = this.deps
    const limit = { records: settings.ingestBatchEventsMax, bytes: settings.ingestBatchBytesMax }
    while (!this.stopped) {
      await this.untilReady(limit)
      for (const input of this.inputs) {
        if (this.stopped) return
        if (!input.ready) continue
        const started = performance.now()
        const records = input.take()
        failpoint('batch_read')
        if (performance.now() > this.lossesReadMs + LOSSES_EVERY_MS) await this.readLosses()
        this.claims!.reached(await this.times!.after(input.id.logId, records))
        for (const part of this.redo.get(input.id.logId)?.split(records) ?? [records])
          await this.throughGate(() => this.process(input, part, new Map()))
        const full = records.length >= limit.records
        if (!full) await this.pause(settings.ingestLingerMs - (performance.now() - started))
      }
    }
  }

  private throughGate(work: () => Promise<void>): Promise<void> {
    const from = performance.now()
    return this.deps.gate.pass(() => {
      countWait('gate', performance.now() - from)
      return work()
    })
  }

  /** Waits for records on either lane; when none come for a while, tells Postgres what was produced. */
  private async untilReady(limit: { records: number; bytes: number }): Promise<void> {
    const { signal } = this.stopping
    const idleFrom = performance.now()
    for (;;) {
      for (const input of this.inputs) input.read(limit)
      if (this.stopped || this.inputs.some((input) => input.ready)) return
      const unmarked = this.inputs.filter((input) => input.markedThrough < input.producedThrough)
      const markInMs = idleFrom + IDLE_MARK_MS - performance.now()
      if (unmarked.length === 0) await this.arrived.wait(signal)
      else if (markInMs > 0) await this.arrived.wait(signal, markInMs)
      else for (const input of unmarked) await this.mark(input)
    }
  }

  private async mark(input: LaneInput): Promise<void> {
    if (input.markedThrough >= input.producedThrough) return
    failpoint('before_mark')
    await markProduced(this.deps.sql, input.id, input.producedThrough)
    input.markedThrough = input.producedThrough
  }

  /**
   * Applies and produces one batch; splits it when Postgres refuses a value, so that one event cannot cost its
   * neighbours, and when its rows are too large for one batch.
   */
  private async process(
    input: LaneInput,
    records: StoredRecord[],
    forced: Map<number, Decision>,
  ): Promise<void> {
    try {
      await this.processAtOnce(input, records, forced)
    } catch (error) {
      if (!isRejected(error) && !(error instanceof BatchTooLarge)) throw error
      if (records.length > 1) {
        const middle = records.length >> 1
        await this.process(input, records.slice(0, middle), forced)
        await this.process(input, records.slice(middle), forced)
        return
      }
      const { offset } = records[0]!
      if (forced.has(offset)) throw error
      forced.set(offset, {
        kind: 'deadLetter',
        reason: 'refused_by_state',
        detail: (error as Error).message,
        step: 'identity',
      })
      await this.processAtOnce(input, records, forced)
    }
  }

  private async processAtOnce(
    input: LaneInput,
    records: StoredRecord[],
    forced: ReadonlyMap<number, Decision>,
  ): Promise<void> {
    const { deps } = this
    const claims = this.claims!
    const started = performance.now()
    const sets = await deps.transformations.current()
    const output = this.outputLane(input.id, sets.generation)
    const { slots, tokens } = openBatch(records)
    const projects = await deps.projectsOf(tokens)
    const facts = await deps.cookielessFacts(projects.values())
    const judgeCookieless: JudgeCookieless = (event) => judge(event, facts)
    const judgeClaims: Judge = (requests) => claims.judge(requests)
    const redo = this.redo.get(input.id.logId)
    const again = redo !== undefined && records[0]!.offset < redo.through
    let accepted: ClaimRequest[]
    if (again)
      accepted = await prepareRedo(
        redo,
        slots,
        input.id,
        projects,
        judgeClaims,
        forced,
        judgeCookieless,
        sets,
      )
    else {
      const { claims, waiting } = judgeBatch(
        slots,
        input.id,
        openOnes(projects),
        judgeClaims,
        judgeCookieless,
      )
      await sets.apply(waiting)
      finishBatch(slots, waiting, forced)
      accepted = claims
    }
    const rowsOf = rowSlots(slots)
    const candidates = rowsOf.filter((slot) => !slot.decision)
    const requests = batchRequests(candidates)
    const checksum = rangeChecksum(records)
    const toOffset = records.at(-1)!.offset + 1
    let rows: EventRows = []
    let receipt: BatchReceipt | undefined
    failpoint('batch_transformed')
    const committed: CommittedBatch = await deps.identity.commit(
      requests.events,
      {
        ...input.id,
        owner: this.owner,
        fromOffset: records[0]!.offset,
        toOffset,
        producedThrough: input.producedThrough,
      },
      (stamps) => {
        // Called again after a conflict: what a former call decided about sizes no longer stands.
        for (const slot of candidates) slot.decision = undefined
        rows = encodeRows(rowsOf, stamps, output, again)
        const warnings = stamps.flatMap((stamp, i) => warningsAt(candidates[i]!.record.offset, stamp))
        receipt = {
          ...makeReceipt(rowsOf, sets.generation, checksum, input.last, warnings),
          marks: this.marks!.marks(),
        }
        return receipt
      },
      { optionsOf: identityOptionsOf(projects), visitors: requests.visitors },
    )
    failpoint('apply_committed')
    const left = requests.warnings()
    candidates.forEach((slot, i) => {
      slot.warnings.push(...left[i]!, ...committed.stamps[i]!.warnings)
    })
    input.markedThrough = input.producedThrough
    input.nextOffset = toOffset
    claims.store(accepted, input.id.logId, toOffset)
    failpoint('claims_stored')
    showDedup(this.partition, claims.size())

    const pieces = piecesOf(outputRecords(rowsOf, rows, committed.stateRows, output, input.last))
    const sending = performance.now()
    for (const piece of pieces) await this.produce(piece)
    countWait('log', performance.now() - sending)
    input.last = receipt!.last
    input.producedThrough = toOffset
    countBatch(slots, (performance.now() - started) / 1000)
  }

  /** Sends until it is durable: copies of what landed in part are recognised by their source. */
  private async produce(records: SendRecord[]): Promise<void> {
    for (let failures = 1; ; failures++) {
      try {
        const sent = this.deps.producer.send(records)
        failpoint('rows_sent')
        this.marks!.note(await sent)
        failpoint('rows_produced')
        return
      } catch (error) {
        if (isRejected(error)) {
          // The batch is applied: nothing may bisect it any more, and no row of ours should be refused here.
          throw new Error(`the log refuses a row of an applied batch: ${(error as Error).message}`, {
            cause: error,
          })
        }
        if (!isRetriable(error) || this.stopped) throw error
        const code = (error as HeadraceError).code
        ingestMetrics.retries.inc({ code })
        this.deps.logger.warn(
          { code, partition: this.partition },
          `produce waits: ${(error as Error).message}`,
        )
        await this.pause(backoffMs(failures, BACKOFF))
      }
    }
  }

  /** Where rows of this partition go; by default those of the live lane. */
  outputLane(
    id: { logId: string; topic: string } = this.deps.lanes[0]!,
    configVersion = FIRST_GENERATION,
  ): OutputLane {
    const { partitions, rowBytesMax } = this.deps
    const historical = id.topic === TOPICS.rawHistorical
    return { logId: id.logId, partition: this.partition, partitions, historical, configVersion, rowBytesMax }
  }

  /** What was produced, as far as Postgres knows it: the position that lag displays and retention see. */
  positions(): Position[] {
    return this.inputs.map((input) => ({
      topic: input.id.topic,
      partition: this.partition,
      offset: input.markedThrough,
    }))
  }

  private pause(ms: number): Promise<void> {
    return pause(ms, this.stopping.signal)
  }

  private async closeInputs(): Promise<void> {
    await Promise.all(this.inputs.map((input) => input.close()))
  }

  /** Leaves with Postgres knowing what was produced, so that the next owner need not replay. */
  private async close(): Promise<void> {
    const inputs = this.inputs
    await this.closeInputs()
    this.inputs = []
    for (const input of inputs) {
      await this.mark(input).catch((error) => {
        this.deps.logger.warn(
          { partition: this.partition, lane: name(input.id) },
          `position not noted, the next owner replays: ${error.message}`,
        )
      })
    }
    this.claims?.close()
    this.claims = undefined
    this.redo.clear()
    showDedup(this.partition, undefined)
  }
}

function warningsAt(offset: number, stamp: Stamp): [number, Warning][] {
  return stamp.warnings.map((warning) => [offset, warning])
}

/** The partition cannot go on without a human; the others can. */
const HALTING = new Set([
  'HR_INGEST_GAP',
  'HR_INGEST_CHANGED',
  'HR_INGEST_STATE_BEHIND',
  'HR_LOG_OUT_OF_RANGE',
  'HR_LOG_CORRUPT',
])

/** Another process works here, or is slow to let go: opening again shows whether the partition is still ours. */
const WAITING = new Set(['HR_INGEST_FENCE', 'HR_LOG_NOT_WRITER'])
