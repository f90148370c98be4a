/**
 * Group commit: what arrives while one group is in flight goes together into the next one. Costs a request one push;
 * all requests of a group wait for one promise.
 */
import type { HeadraceError } from '../event/index.ts'
import type { SendRecord } from '../log/index.ts'

/** A group takes no more requests beyond these; a single request may be larger. */
export const GROUP_BYTES_MAX = 8 << 20
export const GROUP_RECORDS_MAX = 20_000

/** The records of some requests, which become durable together. */
export class Group {
  readonly requests: SendRecord[][] = []
  readonly done: Promise<void>
  /** When its first request came (performance.now). */
  readonly fromMs = performance.now()
  /** Requests whose own records were refused, while the others of the group were stored. */
  refused: Map<SendRecord[], HeadraceError> | undefined
  /** The log has had its time: what of it was not sent yet must not be any more. */
  isGivenUp = false
  records = 0
  bytes = 0
  /** Appends and sends of its records that have not ended, also those that nobody waits for any more. */
  private uses = 0
  private freed: (() => void) | undefined
  private resolve!: () => void
  private reject!: (error: unknown) => void

  constructor() {
    this.done = new Promise((resolve, reject) => {
      this.resolve = resolve
      this.reject = reject
    })
  }

  add(request: SendRecord[], bytes: number): void {
    this.requests.push(request)
    this.records += request.length
    this.bytes += bytes
  }

  /** All records, in the order in which they came, but those of requests that were refused. */
  all(): SendRecord[] {
    const { refused } = this
    if (!refused && this.requests.length === 1) return this.requests[0]!
    const all: SendRecord[] = []
    for (const request of this.requests) {
      if (refused?.has(request)) continue
      for (const record of request) all.push(record)
    }
    return all
  }

  /** Its records stay in memory until `work` has ended, however long anybody waits for it. Gives `work`. */
  usedBy<T>(work: Promise<T>): Promise<T> {
    this.uses++
    const ended = () => {
      if (--this.uses === 0) this.freed?.()
    }
    work.then(ended, ended)
    return work
  }

  /** Calls `freed` when nothing uses its records: at once, or when the last use has ended. Nothing new uses them. */
  whenFree(freed: () => void): void {
    if (this.uses === 0) freed()
    else this.freed = freed
  }

  stored(): void {
    this.resolve()
  }

  failed(error: unknown): void {
    this.reject(error)
  }
}

/** Groups in the order in which they came, within a number of bytes. */
export class GroupQueue {
  private readonly groups: Group[] = []
  private bytes = 0

  constructor(private readonly bytesMax: number) {}

  get length(): number {
    return this.groups.length
  }

  get oldest(): Group | undefined {
    return this.groups[0]
  }

  /** The group that the request is in now; undefined when it does not fit. */
  add(request: SendRecord[], bytes: number): Group | undefined {
    if (this.bytes > 0 && this.bytes + bytes > this.bytesMax) return undefined
    let group = this.groups.at(-1)
    const fits =
      group && group.bytes + bytes <= GROUP_BYTES_MAX && group.records + request.length <= GROUP_RECORDS_MAX
    if (!group || !fits) {
      group = new Group()
      this.groups.push(group)
    }
    group.add(request, bytes)
    this.bytes += bytes
    return group
  }

  /** The oldest one, which takes no more requests; its bytes count until it is `over` and free. */
  take(): Group | undefined {
    return this.groups.shift()
  }

  over(group: Group): void {
    group.whenFree(() => {
      this.bytes -= group.bytes
    })
  }
}
