/**
 * The topics that this process has open, kept current by one watch on the folder of head files: a commit anywhere
 * wakes the readers of that topic within about a millisecond, without polling. A slow look at everything each
 * `pollMs` covers events that the kernel dropped. Cost: one small read per event and open topic.
 */
import { type FSWatcher, watch } from 'node:fs'
import { FileLock } from '../../platform/index.ts'
import { logError } from '../errors.ts'
import type { TopicState } from '../log.ts'
import { bootMark, HeadFile } from './head-file.ts'
import { type Layout, makeDir } from './layout.ts'
import { watchFailures } from './metrics.ts'
import { TopicHandle } from './topic-handle.ts'
import { readTopic } from './topic-settings.ts'

/** Longer than the watcher's blind time after an event. */
const ECHO_MS = 3

export class HeadBoard {
  private readonly topics = new Map<string, TopicHandle>()
  private readonly bootMark: string
  private readonly groupListeners = new Map<string, Set<() => void>>()
  private watcher: FSWatcher | undefined
  private poll: NodeJS.Timeout | undefined
  private closed = false
  /** Files with a second look pending; true when another event came meanwhile. */
  private readonly echoes = new Map<string, boolean>()

  constructor(
    readonly layout: Layout,
    private readonly pollMs: number,
    bootId: string | undefined,
    private readonly warn: (sentence: string) => void,
  ) {
    this.bootMark = bootMark(bootId)
    makeDir(layout.heads)
    makeDir(layout.topics)
  }

  /** The topic, opened when it is not yet. Throws HR_LOG_NO_TOPIC. */
  open(name: string): TopicHandle {
    if (this.closed) throw logError('HR_LOG_CLOSED', 'the log is closed')
    const known = this.topics.get(name)
    if (known && known.state !== 'gone') return known
    this.start()
    const settings = readTopic(this.layout, name)
    if (!settings)
      throw logError('HR_LOG_NO_TOPIC', `topic ${name} does not exist in the log at ${this.layout.dir}`)
    const handle = new TopicHandle(this.layout, settings, this.openHead(settings), this.bootMark)
    this.topics.set(name, handle)
    handle.refresh()
    this.unstick(handle)
    return handle
  }

  /** The head file belongs to the topic's log id, or is made anew: what it said is found again in the segments. */
  private openHead(settings: TopicState): HeadFile {
    const path = this.layout.head(settings.name)
    const good = openMatching(path, settings)
    if (good) return good
    const lock = FileLock.try(this.layout.topicsLock)
    if (!lock)
      throw logError(
        'HR_LOG_UNAVAILABLE',
        `topic ${settings.name} is being made or deleted by another process`,
      )
    try {
      const made = openMatching(path, settings)
      if (made) return made
      HeadFile.create(path, settings.logId, settings.partitions)
      return openMatching(path, settings)!
    } finally {
      lock.release()
    }
  }

  /** The topics that are open here. */
  all(): TopicHandle[] {
    return [...this.topics.values()]
  }

  private start(): void {
    if (this.poll) return
    // A watch that fails costs freshness, not records: the poll goes on.
    const failed = (error: unknown) => {
      watchFailures.inc()
      this.warn(
        `the folder ${this.layout.heads} cannot be watched; readers wait up to ${this.pollMs} ms: ${error}`,
      )
    }
    try {
      this.watcher = watch(this.layout.heads, (event, file) => this.changed(event, file))
      this.watcher.on('error', failed)
    } catch (error) {
      failed(error)
    }
    this.poll = setInterval(() => this.lookAtAll(), this.pollMs)
  }

  private changed(event: string, file: string | null): void {
    if (file === null) this.lookAtAll()
    else {
      this.look(file, event === 'rename')
      this.lookAgainSoon(file)
    }
  }

  /** Bun's watcher drops an event that comes within 1 ms of one for the same file, which may be the last one. */
  private lookAgainSoon(file: string): void {
    const pending = this.echoes.has(file)
    this.echoes.set(file, pending)
    if (pending) return
    setTimeout(() => {
      const more = this.echoes.get(file)
      this.echoes.delete(file)
      if (this.closed) return
      this.look(file, false)
      if (more) this.lookAgainSoon(file)
    }, ECHO_MS)
  }

  private look(file: string, renamed: boolean): void {
    if (file.startsWith('.')) {
      for (const listener of [...(this.groupListeners.get(file.slice(1)) ?? [])]) listener()
      return
    }
    const handle = this.topics.get(file)
    if (!handle) return
    handle.refresh()
    // A name that came or went: the topic may not be the one that we opened any more.
    if (renamed) this.check(handle)
  }

  private lookAtAll(): void {
    for (const handle of [...this.topics.values()]) {
      handle.refresh()
      this.unstick(handle)
      this.check(handle)
    }
    for (const set of this.groupListeners.values()) for (const listener of [...set]) listener()
  }

  private check(handle: TopicHandle): void {
    if (readTopic(this.layout, handle.name)?.logId !== handle.logId) this.forget(handle)
  }

  /** Whoever deletes a topic holds the lock; when nobody does, it died on the way and the topic stays. */
  private unstick(handle: TopicHandle): void {
    if (handle.state !== 'leaving') return
    const lock = FileLock.try(this.layout.topicsLock)
    if (!lock) return
    if (readTopic(this.layout, handle.name)?.logId === handle.logId) handle.writeDeleting(false)
    lock.release()
  }

  /** The topic under this log id is no more: tells whoever uses it. */
  forget(handle: TopicHandle): void {
    if (this.topics.get(handle.name) === handle) this.topics.delete(handle.name)
    handle.vanish()
  }

  /** Calls `listener` when something changes in the group, and each `pollMs`. */
  onGroup(group: string, listener: () => void): () => void {
    this.start()
    const set = this.groupListeners.get(group) ?? new Set()
    this.groupListeners.set(group, set)
    set.add(listener)
    return () => set.delete(listener)
  }

  close(): void {
    this.closed = true
    this.watcher?.close()
    clearInterval(this.poll)
    for (const handle of this.topics.values()) handle.close()
    this.topics.clear()
  }
}

function openMatching(path: string, settings: TopicState): HeadFile | undefined {
  const head = HeadFile.open(path, settings.partitions)
  if (head?.read()?.logId === settings.logId) return head
  head?.close()
  return undefined
}
