/**
 * Making, describing and deleting topics. A topic appears with its settings and log id by one rename, and goes by
 * one; both under a lock, so that several processes may try at once. Before a topic goes, its writers are told and
 * have let go of their locks: no send is acknowledged into files that nobody will read.
 */
import { randomUUID } from 'node:crypto'
import { mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { FileLock } from '../../platform/index.ts'
import { logError } from '../errors.ts'
import type { TopicSpec, TopicState } from '../log.ts'
import type { HeadBoard } from './head-board.ts'
import { HeadFile } from './head-file.ts'
import { checkName, type Layout, makeDir, syncDir } from './layout.ts'
import type { Limits } from './options.ts'
import { forgetPositions } from './positions.ts'
import { readTopic, writeTopic } from './topic-settings.ts'

const PARTITIONS_MAX = 4096

/**
 * Makes a topic, or gives the one that exists when it has the same settings. Throws HR_LOG_WRONG_TOPIC when it has
 * others, or when the settings make no sense.
 */
export async function createTopic(layout: Layout, spec: TopicSpec, limits: Limits): Promise<TopicState> {
  checkName('topic', spec.name)
  checkSpec(spec)
  makeDir(layout.topics)
  return await withTopicsLock(layout, limits, () => {
    clearLeftovers(layout)
    const existing = readTopic(layout, spec.name)
    if (existing) {
      requireSame(existing, spec)
      return existing
    }
    const state: TopicState = { ...spec, logId: randomUUID() }
    const unseen = join(layout.topics, `.${state.logId}`)
    for (let p = 0; p < spec.partitions; p++) mkdirSync(join(unseen, String(p)), { recursive: true })
    writeTopic(unseen, state)
    makeDir(layout.heads)
    HeadFile.create(layout.head(spec.name), state.logId, spec.partitions)
    renameSync(unseen, layout.topic(spec.name))
    syncDir(layout.topics)
    return state
  })
}

/** Deletes a topic with all its records. Throws HR_LOG_NO_TOPIC, or HR_LOG_NOT_WRITER when a writer does not let go. */
export async function deleteTopic(board: HeadBoard, name: string, limits: Limits): Promise<void> {
  const { layout } = board
  await withTopicsLock(layout, limits, async () => {
    const topic = board.open(name)
    topic.writeDeleting(true)
    const locks: FileLock[] = []
    try {
      for (let p = 0; p < topic.partitions; p++) {
        const lock = await FileLock.within(layout.writerLock(name, p), limits.writerWaitMs)
        if (!lock)
          throw logError(
            'HR_LOG_NOT_WRITER',
            `${name}/${p} is written by a process that does not let go of it`,
          )
        locks.push(lock)
      }
      const unseen = join(layout.topics, `.${topic.logId}`)
      renameSync(layout.topic(name), unseen)
      syncDir(layout.topics)
      rmSync(layout.head(name), { force: true })
      board.forget(topic)
      forgetPositions(layout, name, topic.logId)
      rmSync(unseen, { recursive: true, force: true })
    } catch (error) {
      if (topic.state !== 'gone') topic.writeDeleting(false)
      throw error
    } finally {
      for (const lock of locks) lock.release()
    }
  })
}

/** Folders of a topic that was half made or half deleted when a process died. The caller holds the lock. */
function clearLeftovers(layout: Layout): void {
  for (const name of readdirSync(layout.topics))
    if (name.startsWith('.')) rmSync(join(layout.topics, name), { recursive: true, force: true })
}

async function withTopicsLock<T>(layout: Layout, limits: Limits, work: () => T | Promise<T>): Promise<T> {
  const lock = await FileLock.within(layout.topicsLock, 2 * limits.writerWaitMs)
  if (!lock) throw logError('HR_LOG_UNAVAILABLE', 'another process is making or deleting a topic')
  try {
    return await work()
  } finally {
    lock.release()
  }
}

function checkSpec(spec: TopicSpec): void {
  const bad = (what: string) => logError('HR_LOG_WRONG_TOPIC', `topic ${spec.name}: ${what}`)
  if (!Number.isInteger(spec.partitions) || spec.partitions < 1 || spec.partitions > PARTITIONS_MAX)
    throw bad(`${spec.partitions} partitions; allowed are 1 to ${PARTITIONS_MAX}`)
  if (!Number.isInteger(spec.recordBytesMax) || spec.recordBytesMax < 1 || spec.recordBytesMax > 2 ** 30)
    throw bad(`recordBytesMax is ${spec.recordBytesMax}; allowed are 1 to ${2 ** 30}`)
  for (const key of ['retentionMs', 'retentionBytes'] as const)
    if (spec[key] !== undefined && !(spec[key] > 0)) throw bad(`${key} is ${spec[key]}; it must be above 0`)
}

function requireSame(existing: TopicState, spec: TopicSpec): void {
  for (const key of ['partitions', 'retentionMs', 'retentionBytes', 'recordBytesMax'] as const)
    if (existing[key] !== spec[key])
      throw logError(
        'HR_LOG_WRONG_TOPIC',
        `topic ${spec.name} exists with ${key} ${existing[key]}, wanted is ${spec[key]}`,
      )
}
