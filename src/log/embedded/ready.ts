/**
 * The current slot of a partition for whoever wants to read it. When nobody has written the slot since the machine
 * started, the partition is recovered first, under its writer lock, so that readers never see less than what they
 * were shown before a power cut.
 */
import { closeSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { FileLock } from '../../platform/index.ts'
import { logError } from '../errors.ts'
import type { Slot } from './head-file.ts'
import type { Limits } from './options.ts'
import { recoverPartition } from './recover.ts'
import type { Settlement } from './settlement.ts'
import type { TopicHandle } from './topic-handle.ts'

const RETRY_MS = 20

/** Throws HR_LOG_UNAVAILABLE when another process is at it for too long, HR_LOG_WRONG_TOPIC for an unknown number. */
export async function readySlot(
  topic: TopicHandle,
  partition: number,
  limits: Limits,
  settlement: Settlement,
): Promise<Slot> {
  if (!Number.isInteger(partition) || partition < 0 || partition >= topic.partitions)
    throw logError('HR_LOG_WRONG_TOPIC', `topic ${topic.name} has no partition ${partition}`)
  const deadline = performance.now() + limits.writerWaitMs
  for (;;) {
    const slot = topic.slot(partition)
    if (slot) return slot
    if (topic.state === 'gone') throw logError('HR_LOG_NO_TOPIC', `topic ${topic.name} was deleted`)
    topic.refresh()
    if (topic.slot(partition)) continue
    const lock = FileLock.try(topic.layout.writerLock(topic.name, partition))
    if (lock) {
      try {
        closeSync((await recoverPartition(topic, partition, settlement)).fd)
      } finally {
        lock.release()
      }
    } else if (performance.now() > deadline) {
      throw logError('HR_LOG_UNAVAILABLE', `${topic.name}/${partition} is being recovered by another process`)
    } else await delay(RETRY_MS)
  }
}
