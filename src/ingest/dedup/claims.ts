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
 * the window and an eighth more; in memory 5 MB, and 2 bytes per event for filters, within a bound for the process.
 */
import { HeadraceError, type Source } from '../../event/index.ts'
import { BatchKeys } from './batch-keys.ts'
import {
  appendedMsAt,
  CLAIM_WORDS,
  ClaimKeys,
  type ClaimRequest,
  digestAt,
  LOGS_MAX,
  logNumberAt,
  offsetAt,
  writeHolder,
} from './claim-words.ts'
import { classifyDedup, DamagedIndex, putAside } from './failures.ts'
import { Manifest } from './manifest.ts'
import { FilterMemory } from './run.ts'
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

export type ClaimsOptions = { sealClaims?: number; filterMemory?: FilterMemory }

/** Of one event, by its digest: project, event name and distinct_id. */
type Holder = { logId: string; offset: number; appendedMs: number }

const SEAL_CLAIMS = 65_536
/** Filters of 120 million claims; beyond, they are read from their files, out of the page cache. */
const FILTER_BYTES_MAX = 256 * 2 ** 20
const filterMemory = new FilterMemory(FILTER_BYTES_MAX)

const FIRST: ClaimVerdict = Object.freeze({ kind: 'first', holder: undefined, uuidReused: false })
const FIRST_REUSED: ClaimVerdict = Object.freeze({ ...FIRST, uuidReused: true })

export class Claims {
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
    this.tiers = new Tiers(this.manifest, {
      windowMs,
      filterMemory: options.filterMemory ?? filterMemory,
      sealClaims: options.sealClaims ?? SEAL_CLAIMS,
    })
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
    return requests.map((request, place) => {
      const at = place * CLAIM_WORDS
      const verdict = this.decide(request, digestAt(words, at), (meet) => {
        // The newest first.
        batch.earlier(place, (i) => {
          meet(digestAt(words, i * CLAIM_WORDS), () => requests[i]!)
        })
        this.tiers.find(words, at, runs.get(place), (claims, found) =>
          meet(digestAt(claims, found), () => this.holderAt(claims, found)),
        )
      })
      if (verdict.kind === 'first') batch.add(place)
      return verdict
    })
  }

  /**
   * `visit` meets all that the uuid has, the newest first; of several of one event only the newest counts. Keeps no list:
   * a client may send one uuid with everything.
   */
  private decide(
    request: ClaimRequest,
    digest: number,
    visit: (meet: (digest: number, holder: () => Holder) => boolean) => void,
  ): ClaimVerdict {
    let newest: Holder | undefined
    let reused = false
    visit((met, holder) => {
      if (met === digest) newest ??= holder()
      else if (!reused) {
        const other = holder()
        reused = this.isWithin(other, request) && !isBehind(other, request)
      }
      return reused
    })
    if (newest && this.isWithin(newest, request)) {
      const itself = newest.logId === request.logId && newest.offset === request.offset
      if (!itself && !isReplayOf(request.replayOf, newest)) {
        return {
          kind: 'duplicate',
          holder: { logId: newest.logId, offset: newest.offset },
          uuidReused: false,
        }
      }
    }
    return reused ? FIRST_REUSED : FIRST
  }

  private isWithin(holder: Holder, request: ClaimRequest): boolean {
    return request.appendedMs - holder.appendedMs <= this.windowMs
  }

  /** Writes the claims of a batch that Postgres has taken, and that everything below `completeTo` of `logId` is in. */
  store(claims: readonly ClaimRequest[], logId: string, completeTo: number): void {
    this.guard(() => {
      this.refresh()
      // Of the oldest of the batch: one record with a clock that leaps ahead must not expire others.
      const oldestMs = claims.reduce((least, claim) => Math.min(least, claim.appendedMs), Infinity)
      const before = claims.length === 0 ? 0 : oldestMs - this.windowMs
      if (!this.tiers.advance(claims.length, before)) this.load()
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

  /** What it takes of the disk now, of what was last read and written. */
  size(): { claims: number; bytes: number } {
    return this.guard(() => ({ claims: this.tiers.count, bytes: this.tiers.bytes }))
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

  private holderAt(words: Uint32Array, at: number): Holder {
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

/** On a replay the index holds what came after the request, too. */
function isBehind(holder: Holder, request: ClaimRequest): boolean {
  return holder.logId === request.logId && holder.offset > request.offset
}

function isReplayOf(replayOf: Source | undefined, holder: Holder): boolean {
  return replayOf !== undefined && replayOf.logId === holder.logId && replayOf.offset === holder.offset
}
