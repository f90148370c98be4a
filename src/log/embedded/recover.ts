/**
 * Brings the end of a partition in order, for the holder of its writer lock: finds the last whole commit, cuts off
 * what was left of one that nobody was told of, makes sure that all the rest is durable, and publishes it.
 *
 * What must hold:
 * - What a commit journal still holds for it is in the segments first (settlement.ts).
 * - Nothing below the published end is ever cut, whatever it looks like: readers report damage there.
 * - A broken frame with a whole one behind it was durable once, so it is damage too and stays.
 * - What lies behind the published end may be in memory only, even marked clean (a failed fdatasync does that), so
 *   it is written again before it is synced and shown.
 * - Where published records are missing altogether, writing goes on in a new segment at the published end, so that
 *   no offset is given twice; readers report the hole.
 *
 * Cost: reads only what was appended since the last published slot; a whole segment when the head file was lost.
 */
import { closeSync, ftruncateSync } from 'node:fs'
import { logError } from '../errors.ts'
import { checkFrame, decodeFrameHeader, findFrame, SEGMENT_HEADER_BYTES } from './format.ts'
import { segmentBases, writeFully } from './layout.ts'
import { createSegment, openSegment, readAt } from './segment-file.ts'
import type { Settlement } from './settlement.ts'
import type { TopicHandle } from './topic-handle.ts'
import { readTopic } from './topic-settings.ts'

/** Where a partition stands when its writer may begin. */
export type Tail = {
  fd: number
  start: number
  /** The next offset. */
  end: number
  segment: number
  /** When the last segment was made, epoch ms. */
  segmentMadeMs: number
  /** Durable bytes of the last segment. */
  bytes: number
  /** Bytes of an unfinished commit that were cut. */
  cutBytes: number
  /** Damage that was found on the way, one sentence each. */
  damage: string[]
}

/** See the module comment. The caller holds the writer lock. Throws HR_LOG_UNAVAILABLE or what the disk says. */
export async function recoverPartition(
  topic: TopicHandle,
  partition: number,
  settlement: Settlement,
): Promise<Tail> {
  // The lock keeps the topic from being deleted from here on; it may have been made again before.
  if (readTopic(topic.layout, topic.name)?.logId !== topic.logId)
    throw logError('HR_LOG_UNAVAILABLE', `topic ${topic.name} was deleted or made again a moment ago`)
  await settlement.before(topic, partition)
  topic.refresh()
  const folder = topic.layout.partition(topic.name, partition)
  const published = topic.anySlot(partition)
  let bases = segmentBases(folder)
  if (bases.length === 0 || bases.at(-1)! < (published?.segment ?? 0)) {
    await createSegment(topic, partition, published?.end ?? 0)
    bases = segmentBases(folder)
  }
  const last = bases.at(-1)!
  let tail = await readTail(topic, partition, last, published).catch((error) => {
    // A damaged segment header: when the true end is known, writing goes on behind it.
    if (error.code !== 'HR_LOG_CORRUPT' || (topic.slot(partition)?.end ?? 0) <= last) throw error
    return undefined
  })
  if (published && (!tail || tail.end < published.end)) {
    const damage = [
      ...(tail?.damage ?? []),
      `published up to ${published.end}, found up to ${tail?.end ?? last}`,
    ]
    if (tail) closeSync(tail.fd)
    await createSegment(topic, partition, published.end)
    tail = { ...(await readTail(topic, partition, published.end, published)), damage }
  }
  if (!tail) throw logError('HR_LOG_CORRUPT', `${topic.name}/${partition} cannot be recovered`)
  tail.start = Math.max(bases[0]!, Math.min(published?.start ?? 0, tail.end))
  try {
    await settlement.operations.fdatasync(tail.fd)
    const { start, end, segment, bytes } = tail
    topic.publish(partition, [{ start, end, segment, bytes }])
  } catch (error) {
    closeSync(tail.fd)
    throw error
  }
  return tail
}

type Published = { end: number; segment: number; bytes: number } | undefined

async function readTail(
  topic: TopicHandle,
  partition: number,
  base: number,
  published: Published,
): Promise<Tail> {
  const { fd, header, fileBytes } = openSegment(topic, partition, base, 'r+')!
  const known = published?.segment === base && published.bytes >= SEGMENT_HEADER_BYTES ? published : undefined
  const tail: Tail = {
    fd,
    start: 0,
    end: known ? known.end : base,
    segment: base,
    segmentMadeMs: header.madeMs,
    bytes: known ? known.bytes : SEGMENT_HEADER_BYTES,
    cutBytes: 0,
    damage: [],
  }
  if (fileBytes < tail.bytes) {
    // Published bytes are missing: the caller sees an end below the published one.
    return { ...tail, end: base, bytes: fileBytes }
  }
  const from = tail.bytes
  try {
    const bytes = await readAt(fd, fileBytes - from, from)
    const whole = walkFrames(topic, bytes, tail, from)
    writeFully(fd, bytes.subarray(0, whole), from)
    tail.cutBytes = bytes.length - whole
    if (tail.cutBytes > 0) ftruncateSync(fd, from + whole)
    tail.bytes = from + whole
  } catch (error) {
    closeSync(fd)
    throw error
  }
  return tail
}

/** Moves `tail.end` over the whole frames in `bytes`; gives how many bytes they take. */
function walkFrames(topic: TopicHandle, bytes: Buffer, tail: Tail, from: number): number {
  let at = 0
  while (at < bytes.length) {
    const frame = decodeFrameHeader(bytes, at, topic.mark)
    const end = frame?.base === tail.end ? checkFrame(bytes, at, frame) : undefined
    if (frame && end !== undefined) {
      tail.end += frame.records
      at = end
      continue
    }
    const next = findFrame(bytes, at + 1, tail.end + 1, topic.mark)
    if (next === undefined) break
    tail.damage.push(`offset ${tail.end}, byte ${from + at} of segment ${tail.segment}`)
    tail.end = decodeFrameHeader(bytes, next, topic.mark)!.base
    at = next
  }
  return at
}
