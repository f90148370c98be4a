/**
 * Membership of a group across processes, by files and locks only. A member holds a lock on its own file; a file
 * that nobody holds is of a dead member. Every member computes the same assignment of the live ones, lets go of
 * what is not its own any more, and takes the lease (a lock) of each number that is. The lease makes the promise:
 * a number has one owner at a time, whatever the members believe. A stopped process keeps its leases until it is
 * killed, so nothing is ever lost behind its back and `lost` is not called.
 *
 * One number: free → owned (lease taken, `assigned`) → revoking (`revoked` runs, lease still held) → free.
 * Changes are noticed by the head board's watch (a member or lease that came or went), and a death, which leaves no
 * event, by a look each `memberPollMs`: some readdir and lock calls.
 */
import { mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { HeadraceError, uuidV7 } from '../../event/index.ts'
import { FileLock, isLocked } from '../../platform/index.ts'
import { logError } from '../errors.ts'
import type { Member, MemberOptions, Position } from '../log.ts'
import { assign } from './assignment.ts'
import type { HeadBoard } from './head-board.ts'
import { checkName, makeDir } from './layout.ts'
import type { FileOperations, Limits } from './options.ts'
import { PositionFile } from './positions.ts'
import type { TopicHandle } from './topic-handle.ts'
import { worldError } from './world-error.ts'

export class EmbeddedMember implements Member {
  private readonly id = uuidV7(Date.now())
  private readonly leases = new Map<number, FileLock>()
  private readonly revoking = new Map<number, Promise<void>>()
  private readonly positions = new Map<string, PositionFile>()
  private commits: Promise<unknown> = Promise.resolve()
  private presence: FileLock | undefined
  private stopListening: (() => void) | undefined
  private poll: NodeJS.Timeout | undefined
  private leaving: Promise<void> | undefined
  private readonly partitions: number

  private constructor(
    private readonly board: HeadBoard,
    private readonly options: MemberOptions,
    private readonly topics: TopicHandle[],
    private readonly operations: FileOperations,
    private readonly letGoOfWriters: () => Promise<void>,
    private readonly onLeave: (member: EmbeddedMember) => void,
  ) {
    this.partitions = Math.max(...topics.map((topic) => topic.partitions))
  }

  /** Joins; numbers come by `assigned`, the first ones right after this returned when they are free. */
  static join(
    board: HeadBoard,
    options: MemberOptions,
    limits: Limits,
    operations: FileOperations,
    letGoOfWriters: () => Promise<void>,
    onLeave: (member: EmbeddedMember) => void,
  ): EmbeddedMember {
    checkName('group', options.group)
    const topics = options.topics.map((name) => board.open(name))
    if (topics.length === 0)
      throw logError('HR_LOG_NO_TOPIC', `group ${options.group} was joined for no topic`)
    const member = new EmbeddedMember(board, options, topics, operations, letGoOfWriters, onLeave)
    member.enter(limits)
    return member
  }

  private enter(limits: Limits): void {
    const { layout } = this.board
    const group = layout.group(this.options.group)
    makeDir(join(group, 'positions'))
    for (const folder of ['members', 'leases', 'joining']) mkdirSync(join(group, folder), { recursive: true })
    // Locked before it is visible, so that nobody takes a member that is just joining for a dead one.
    const unseen = join(group, 'joining', this.id)
    this.presence = FileLock.try(unseen)
    renameSync(unseen, join(group, 'members', this.id))
    this.stopListening = this.board.onGroup(this.options.group, () => this.balance())
    this.poll = setInterval(() => this.balance(), limits.memberPollMs)
    this.touch()
    // Not at once: the caller wants to hold the member before it is told of its first numbers.
    setImmediate(() => this.balance())
  }

  /** Wakes the other members. On a full disk they notice by themselves a little later. */
  private touch(): void {
    tolerateWorld(() => writeFileSync(join(this.board.layout.heads, `.${this.options.group}`), this.id))
  }

  /** Live members in the order in which they joined; dead ones are cleared away. */
  private members(): string[] {
    const folder = join(this.board.layout.group(this.options.group), 'members')
    const live: string[] = []
    for (const id of readdirSync(folder).sort()) {
      if (id === this.id || isLocked(join(folder, id))) live.push(id)
      else rmSync(join(folder, id), { force: true })
    }
    return live
  }

  /** Gives up and takes numbers until what we own is what is due to us. */
  private balance(): void {
    if (this.leaving) return
    const due = new Set(assign(this.members(), this.partitions).get(this.id))
    for (const partition of this.leases.keys()) if (!due.has(partition)) void this.revoke(partition)
    for (const partition of due) {
      if (this.leases.has(partition)) continue
      const path = join(this.board.layout.group(this.options.group), 'leases', String(partition))
      const lease = tolerateWorld(() => FileLock.try(path))
      if (!lease) continue
      this.leases.set(partition, lease)
      this.options.assigned(partition)
      if (this.leaving) return
    }
  }

  private revoke(partition: number): Promise<void> {
    let running = this.revoking.get(partition)
    if (running) return running
    running = this.options
      .revoked(partition)
      // Commits that the owner made before it let go are still its own.
      .then(() => this.commits)
      // The next owner writes to the partitions that we wrote for this number.
      .then(() => this.letGoOfWriters())
      .then(() => {
        this.leases.get(partition)?.release()
        this.leases.delete(partition)
        this.revoking.delete(partition)
        this.touch()
        // The assignment may have changed back meanwhile.
        this.balance()
      })
    this.revoking.set(partition, running)
    return running
  }

  owned(): number[] {
    return [...this.leases.keys()].sort((a, b) => a - b)
  }

  async commit(positions: Position[]): Promise<void> {
    const byTopic = new Map<TopicHandle, Map<number, number>>()
    for (const { topic: name, partition, offset } of positions) {
      const topic = this.topics.find((candidate) => candidate.name === name)
      if (!topic || topic.state === 'gone' || partition >= topic.partitions || !this.leases.has(partition))
        throw logError(
          'HR_LOG_NOT_OWNER',
          `${name}/${partition} is not owned by this member of group ${this.options.group}`,
        )
      const offsets = byTopic.get(topic) ?? new Map<number, number>()
      byTopic.set(topic, offsets)
      offsets.set(partition, offset)
    }
    const committed = Promise.all(
      [...byTopic].map(([topic, offsets]) => this.positionFile(topic).commit(offsets, this.operations)),
    )
    this.commits = Promise.allSettled([this.commits, committed])
    try {
      await committed
    } catch (error) {
      throw worldError(`positions of group ${this.options.group} cannot be stored`, error)
    }
  }

  private positionFile(topic: TopicHandle): PositionFile {
    const key = `${topic.name}@${topic.logId}`
    let file = this.positions.get(key)
    if (!file) {
      file = new PositionFile(this.board.layout, this.options.group, topic.name, topic.logId)
      this.positions.set(key, file)
    }
    return file
  }

  leave(): Promise<void> {
    this.leaving ??= this.depart()
    return this.leaving
  }

  private async depart(): Promise<void> {
    clearInterval(this.poll)
    this.stopListening?.()
    await Promise.all([...this.leases.keys()].map((partition) => this.revoke(partition)))
    await this.commits
    const { layout } = this.board
    rmSync(join(layout.group(this.options.group), 'members', this.id), { force: true })
    this.presence?.release()
    this.touch()
    for (const file of this.positions.values()) file.close()
    this.onLeave(this)
  }
}

/** What the disk refuses now is tried again at the next look at the group. */
function tolerateWorld<T>(work: () => T): T | undefined {
  try {
    return work()
  } catch (error) {
    const told = worldError('group', error)
    if (told instanceof HeadraceError) return undefined
    throw told
  }
}
