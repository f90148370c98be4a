/**
 * The dedup index of one partition: which `(project, uuid, event, distinct_id)` was seen first, and where. Local to
 * the partition's owner. In: the claims of a batch. Out: which of its events are copies.
 *
 * A claim and the offset up to which the index is complete are written in one transaction, after Postgres took the
 * batch, so the index is never ahead of the fence; behind, it is brought up from the raw log (`catch-up.ts`). The
 * newest claims are in memory and in a journal in SQLite (`manifest.ts`), older ones in files that are written once,
 * in order (`tiers.ts`); docs/decisions/0019 says why. Two processes may have an index open, of which one is a zombie:
 * both store what the log says, and each reads anew what the other has written.
 *
 * Cost per event, judged and stored: about 3 µs for ids of any kind at 10 million claims. On disk 38 bytes per event in
 * the window and an eighth more; in memory up to 8 MB, and 2 bytes per event for filters, within one bound for all
 * indexes of the process (`dedup-memory.ts`).
 */
import { HeadraceError, type Source } from '../../event/index.ts'
import { BatchKeys } from './batch-keys.ts'
import {
  appendedMsAt,
  CLAIM_WORDS,
  ClaimKeys,
  type ClaimRequest,
  isSameDigest,
  LOGS_MAX,
  logNumberAt,
  offsetAt,
  type Visit,
  writeHolder,
} from './claim-words.ts'
import { DedupMemory } from './dedup-memory.ts'
import { classifyDedup, DamagedIndex, putAside } from './failures.ts'
import { LostOffsets } from './lost-offsets.ts'
import { Manifest } from './manifest.ts'
import { Tiers } from './tiers.ts'

export type { ClaimRequest } from './claim-words.ts'

export type ClaimVerdict = {
  /** `first`: it is stored; `duplicate`: another record holds the claim. */
  kind: 'first' | 'duplicate'
  /** Of a duplicate: where the first copy came from. */
  holder: { logId: string; offset: number } | undefined
  /** The uuid stands for another event name or distinct_id as well. */
  uuidReused: boolean
}

export type ClaimsOptions = {
  /** Shared by all indexes of the process. Default: one of its own. */
  memory?: DedupMemory
}

export type IndexSize = { claims: number; bytes: number; memoryBytes: number }

type Holder = { logId: string; offset: number; appendedMs: number }

const FIRST: ClaimVerdict = Object.freeze({ kind: 'first', holder: undefined, uuidReused: false })
const FIRST_REUSED: ClaimVerdict = Object.freeze({ ...FIRST, uuidReused: true })

export class Claims {
  /** Offsets whose claims count no more. */
  lost = LostOffsets.none
  private readonly manifest: Manifest
  private readonly keys: ClaimKeys
  private readonly tiers: Tiers
  private logNumbers = new Map<string, number>()
  private logIds = new Map<number, string>()
  /** Memory may not be what the disk says: after an error, and before the first use. */
  private stale = true
  /** Most batches are stored right after they were judged. */
  private judged: BatchKeys | undefined
  private damage: { run: string | undefined } | undefined
  private readonly memory: DedupMemory
  /** What was appended before has expired, epoch ms. */
  private expiredBefore = 0

  /** Opens or creates the index at `path`. Throws DEDUP_ERRORS; a damaged file is put aside first. */
  static open(path: string, windowMs: number, options: ClaimsOptions = {}): Claims {
    try {
      return new Claims(path, windowMs, options)
    } catch (error) {
      const classified = classifyDedup(path, error)
      if (isDamage(classified)) putAside(path)
      throw classified
    }
  }

  private constructor(
    private readonly path: string,
    private readonly windowMs: number,
    options: ClaimsOptions,
  ) {
    this.manifest = new Manifest(path)
    this.keys = new ClaimKeys(this.manifest.seed)
    this.memory = options.memory ?? new DedupMemory()
    this.tiers = new Tiers(this.manifest, windowMs, this.memory)
    this.memory.join()
  }

  /**
   * Whatever is judged from now on was appended at `ms` or later, in whichever lane (`lane-times.ts`): what is a window
   * older may go. Until this is told nothing does. An earlier time than before is taken as well: the former one came of
   * a clock that had leapt ahead.
   */
  reached(ms: number): void {
    this.expiredBefore = ms - this.windowMs
  }

  /** First offset of `logId` that the index has not seen; 0 for a log it does not know. */
  completeTo(logId: string): number {
    return this.guard(() => this.manifest.completeTo(logId))
  }

  /**
   * Decides each request in order; a later one of the batch sees the earlier. Changes nothing: `store` does, once
   * the batch is applied.
   */
  judge(requests: readonly ClaimRequest[]): ClaimVerdict[] {
    return this.guard(() => {
      this.refresh()
      return this.judgeAll(requests)
    })
  }

  private judgeAll(requests: readonly ClaimRequest[]): ClaimVerdict[] {
    const batch = new BatchKeys(requests)
    this.judged = batch
    const { words } = batch
    for (let place = 0; place < requests.length; place++) {
      this.keys.write(requests[place]!, words, place * CLAIM_WORDS)
    }
    const runs = this.tiers.screen(words, requests.length)
    let place = 0
    let newest: Holder | undefined
    let reused = false
    // The newest first; of several of one event only the newest counts. One closure for the whole batch.
    const visit: Visit = (claims, found) => {
      if (isSameDigest(claims, found, words, place * CLAIM_WORDS))
        newest ??= this.holderAt(batch, claims, found)
      else if (!reused) reused = this.isEarlier(this.holderAt(batch, claims, found), requests[place]!)
      return reused
    }
    return requests.map((request, i) => {
      place = i
      newest = undefined
      reused = false
      batch.find(i, visit)
      this.tiers.find(words, i * CLAIM_WORDS, runs.get(i), visit)
      const holder = this.duplicateOf(newest, request)
      if (holder) return { kind: 'duplicate', holder, uuidReused: false }
      batch.add(i)
      return reused ? FIRST_REUSED : FIRST
    })
  }

  /** Where the first copy of `request` is; undefined when `newest` is none, has expired, or is itself. */
  private duplicateOf(newest: Holder | undefined, request: ClaimRequest): ClaimVerdict['holder'] {
    if (newest === undefined || !this.isWithin(newest, request)) return undefined
    const { logId, offset } = newest
    if (logId === request.logId && offset === request.offset) return undefined
    if (isReplayOf(request.replayOf, newest) || this.lost.has(logId, offset)) return undefined
    return { logId, offset }
  }

  /** Whether another event has its uuid from before. On a replay the index holds what came after, too. */
  private isEarlier(other: Holder, request: ClaimRequest): boolean {
    const isBehind = other.logId === request.logId && other.offset > request.offset
    return !isBehind && this.isWithin(other, request)
  }

  private isWithin(holder: Holder, request: ClaimRequest): boolean {
    return request.appendedMs - holder.appendedMs <= this.windowMs
  }

  /** Writes the claims of a batch that Postgres has taken, and that everything below `completeTo` of `logId` is in. */
  store(claims: readonly ClaimRequest[], logId: string, completeTo: number): void {
    this.guard(() => {
      this.refresh()
      if (!this.tiers.advance(claims.length, this.expiredBefore)) this.load()
      const judged = this.judged ?? new BatchKeys([])
      this.judged = undefined
      const row = this.manifest.write(() => {
        if (this.manifest.isChanged()) this.loadWithin()
        const words = new Uint32Array(claims.length * CLAIM_WORDS)
        let lastMs = 0
        for (let i = 0; i < claims.length; i++) {
          const claim = claims[i]!
          judged.writeKey(claim, this.keys, words, i * CLAIM_WORDS)
          const log = this.numberOf(claim.logId)
          writeHolder(words, i * CLAIM_WORDS, log, claim.offset, claim.appendedMs)
          lastMs = Math.max(lastMs, claim.appendedMs)
        }
        this.manifest.setComplete(this.numberOf(logId), completeTo)
        if (claims.length === 0) return undefined
        const appended = { seq: this.tiers.nextSeq(), claims: words, count: claims.length, lastMs }
        this.manifest.appendJournal(appended)
        return appended
      })
      // Only now: a transaction that failed must leave nothing in memory.
      if (row) this.tiers.took(row)
    })
  }

  /** After damage the file is put aside, so that the next to open it starts an empty one. */
  close(): void {
    this.memory.leave()
    this.tiers.close()
    this.manifest.close()
    if (this.damage) putAside(this.path, this.damage.run)
  }

  /** Claims in the index, expired and replaced ones included until they have gone. */
  count(): number {
    return this.guard(() => {
      this.refresh()
      return this.tiers.count
    })
  }

  /** What it takes of disk and memory now, of what was last read and written. */
  size(): IndexSize {
    const { tiers } = this
    return this.guard(() => ({ claims: tiers.count, bytes: tiers.bytes, memoryBytes: tiers.memoryBytes }))
  }

  private refresh(): void {
    if (this.manifest.isChanged() || this.stale) this.load()
  }

  private load(): void {
    this.manifest.write(() => this.loadWithin())
    this.tiers.removeStrays()
  }

  private loadWithin(): void {
    this.stale = true
    this.manifest.isChanged()
    this.tiers.load()
    this.logNumbers = new Map(this.manifest.logs().map(({ number, logId }) => [logId, number]))
    this.logIds = new Map(this.manifest.logs().map(({ number, logId }) => [number, logId]))
    this.stale = false
  }

  private guard<T>(work: () => T): T {
    try {
      return work()
    } catch (error) {
      this.stale = true
      const classified = classifyDedup(this.path, error)
      if (isDamage(classified)) this.damage = { run: error instanceof DamagedIndex ? error.path : undefined }
      throw classified
    }
  }

  private holderAt(batch: BatchKeys, words: Uint32Array, at: number): Holder {
    if (words === batch.words) return batch.requests[at / CLAIM_WORDS]!
    return {
      logId: this.logIdOf(logNumberAt(words, at)),
      offset: offsetAt(words, at),
      appendedMs: appendedMsAt(words, at),
    }
  }

  private logIdOf(number: number): string {
    const logId = this.logIds.get(number)
    if (logId === undefined) throw new DamagedIndex(`a claim names log ${number}, which is not known`)
    return logId
  }

  /** Within a transaction. */
  private numberOf(logId: string): number {
    const known = this.logNumbers.get(logId)
    if (known !== undefined) return known
    const number = this.logNumbers.size + 1
    if (number >= LOGS_MAX) throw new DamagedIndex(`it has seen ${number} logs, more than a claim can name`)
    this.manifest.addLog(number, logId)
    this.logNumbers.set(logId, number)
    this.logIds.set(number, logId)
    return number
  }
}

function isDamage(error: unknown): boolean {
  return error instanceof HeadraceError && error.code === 'HR_DEDUP_DAMAGED'
}

function isReplayOf(replayOf: Source | undefined, holder: Holder): boolean {
  return replayOf !== undefined && replayOf.logId === holder.logId && replayOf.offset === holder.offset
}
