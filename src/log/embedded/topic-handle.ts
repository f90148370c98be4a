/**
 * What one process knows of one topic: its settings and the current slot of each partition, with those who wait
 * for a slot to change.
 *
 * States: live → leaving (somebody is about to delete the topic: writers let go) → live again when that failed, or
 * gone (deleted, or made again under another log id). A handle that is gone stays gone; opening the topic again
 * gives another handle.
 */
import type { TopicState } from '../log.ts'
import { logIdMark } from './format.ts'
import type { HeadContent, HeadFile, Slot } from './head-file.ts'
import type { Layout } from './layout.ts'
import { SegmentIndex } from './segment-index.ts'

export class TopicHandle {
  readonly name: string
  readonly partitions: number
  readonly logId: string
  /** Part of the log id that each frame carries. */
  readonly mark: Buffer
  /** Places in the segments of each partition, learned by reading. */
  readonly indexes: SegmentIndex[]
  state: 'live' | 'leaving' | 'gone' = 'live'
  private readonly slots: (Slot | undefined)[]
  private readonly waiting: Set<() => void>[]
  private readonly leaveListeners = new Set<() => void>()

  constructor(
    readonly layout: Layout,
    readonly settings: TopicState,
    private readonly head: HeadFile,
    private readonly bootMark: string,
  ) {
    this.name = settings.name
    this.partitions = settings.partitions
    this.logId = settings.logId
    this.mark = logIdMark(settings.logId)
    this.slots = new Array<Slot | undefined>(this.partitions).fill(undefined)
    this.indexes = Array.from({ length: this.partitions }, () => new SegmentIndex())
    this.waiting = Array.from({ length: this.partitions }, () => new Set())
  }

  /** The current slot; undefined when it was not written since the machine started. */
  slot(partition: number): Slot | undefined {
    const slot = this.slots[partition]
    return slot?.bootMark === this.bootMark ? slot : undefined
  }

  /** The slot as it was found, also from before the machine started: a lower bound of what is durable. */
  anySlot(partition: number): Slot | undefined {
    return this.slots[partition]
  }

  /** Reads the slots again and wakes whoever waits for one that changed. */
  refresh(): void {
    if (this.state === 'gone') return
    const content = this.head.read()
    if (content) this.take(content)
  }

  private take(content: HeadContent): void {
    if (content.deleting !== (this.state === 'leaving')) {
      this.state = content.deleting ? 'leaving' : 'live'
      if (content.deleting) for (const listener of [...this.leaveListeners]) listener()
    }
    for (let p = 0; p < this.partitions; p++) {
      const now = content.slots[p]
      const before = this.slots[p]
      if (!now || (before && same(before, now))) continue
      this.slots[p] = now
      this.wake(p)
    }
  }

  /** Announces what is durable. Only for the holder of the writer locks of these neighbouring partitions. */
  publish(first: number, slots: Omit<Slot, 'bootMark'>[]): void {
    const marked = slots.map((slot) => ({ ...slot, bootMark: this.bootMark }))
    this.head.write(first, marked)
    for (let i = 0; i < marked.length; i++) {
      this.slots[first + i] = marked[i]!
      this.wake(first + i)
    }
  }

  /** Calls `woken` once, at the next change of the partition or when the topic goes. Gives a way to stop waiting. */
  onChange(partition: number, woken: () => void): () => void {
    const set = this.waiting[partition]!
    set.add(woken)
    return () => set.delete(woken)
  }

  onLeave(listener: () => void): () => void {
    this.leaveListeners.add(listener)
    return () => this.leaveListeners.delete(listener)
  }

  writeDeleting(deleting: boolean): void {
    this.head.writeDeleting(this.logId, deleting)
    this.refresh()
  }

  /** The topic under this log id is no more. */
  vanish(): void {
    if (this.state === 'gone') return
    this.state = 'gone'
    for (const listener of [...this.leaveListeners]) listener()
    this.close()
  }

  close(): void {
    this.state = 'gone'
    this.head.close()
    for (let p = 0; p < this.partitions; p++) this.wake(p)
  }

  private wake(partition: number): void {
    const set = this.waiting[partition]!
    if (set.size === 0) return
    const woken = [...set]
    set.clear()
    for (const wake of woken) wake()
  }
}

function same(a: Slot, b: Slot): boolean {
  return (
    a.end === b.end &&
    a.start === b.start &&
    a.bytes === b.bytes &&
    a.segment === b.segment &&
    a.bootMark === b.bootMark
  )
}
