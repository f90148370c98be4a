/**
 * Retention: whole segments are removed from the old end, by age and by size, never the last one (its name keeps the
 * next offset, so that no offset is given twice) and never one that holds a record which a registered reader (a
 * group that committed this partition) has not passed. The new start is published before the files go. The writer
 * of a partition does it for its own partitions; a partition that nobody writes is done by whoever has a producer.
 */
import { closeSync, rmSync, statSync } from 'node:fs'
import type { TopicSpec } from '../log.ts'
import { SEGMENT_HEADER_BYTES } from './format.ts'
import { segmentBases } from './layout.ts'
import { deletedSegments } from './metrics.ts'
import { PartitionWriter } from './partition-writer.ts'
import { corrupt, openSegment } from './segment-file.ts'
import type { Settlement } from './settlement.ts'
import type { TopicHandle } from './topic-handle.ts'

/** A segment as retention sees it; its records are older than `endedMs`. */
export type Closed = { base: number; end: number; bytes: number; endedMs: number }

/**
 * How many of the oldest `closed` segments go. `activeBytes` belong to the last segment, which stays.
 * `lowest` is the lowest offset that a registered reader still needs.
 */
export function expired(
  closed: readonly Closed[],
  activeBytes: number,
  limits: Pick<TopicSpec, 'retentionMs' | 'retentionBytes'>,
  nowMs: number,
  lowest: number | undefined,
): number {
  const { retentionMs = Number.POSITIVE_INFINITY, retentionBytes = Number.POSITIVE_INFINITY } = limits
  let left = activeBytes
  for (const segment of closed) left += segment.bytes
  let count = 0
  for (const segment of closed) {
    const old = segment.endedMs < nowMs - retentionMs
    const tooMuch = left - segment.bytes >= retentionBytes
    if ((!old && !tooMuch) || (lowest !== undefined && segment.end > lowest)) break
    left -= segment.bytes
    count++
  }
  return count
}

/** Whether the last segment should be closed now, so that its records can expire in time. */
export function closesForAge(madeMs: number, bytes: number, spec: TopicSpec, nowMs: number): boolean {
  return (
    spec.retentionMs !== undefined && bytes > SEGMENT_HEADER_BYTES && nowMs - madeMs > spec.retentionMs / 8
  )
}

function closedSegments(topic: TopicHandle, partition: number, activeBase: number): Closed[] {
  const bases = segmentBases(topic.layout.partition(topic.name, partition)).filter(
    (base) => base <= activeBase,
  )
  const closed: Closed[] = []
  for (let i = 0; i + 1 < bases.length; i++) {
    const next = openSegment(topic, partition, bases[i + 1]!, 'r')
    if (!next) throw corrupt(topic, partition, bases[i + 1]!, bases[i + 1]!, 0, 'the segment is missing')
    closeSync(next.fd)
    const { size } = statSync(topic.layout.segment(topic.name, partition, bases[i]!))
    closed.push({ base: bases[i]!, end: bases[i + 1]!, bytes: size, endedMs: next.header.madeMs })
  }
  return closed
}

/** The lowest offset that a registered reader still needs; undefined when there is none. */
type Lowest = (topic: TopicHandle, partition: number) => number | undefined

/** One run over a partition that this process writes. Nothing may be in flight. */
export async function retain(writer: PartitionWriter, lowest: Lowest, nowMs: number): Promise<void> {
  if (writer.closed || writer.leaving) return
  const { topic, partition } = writer
  if (closesForAge(writer.segmentMadeMs, writer.slot.bytes, topic.settings, nowMs)) await writer.roll()
  const { segment, bytes, start: before } = writer.slot
  const closed = closedSegments(topic, partition, segment)
  const gone = expired(closed, bytes, topic.settings, nowMs, lowest(topic, partition))
  const start = Math.max(before, gone > 0 ? closed[gone - 1]!.end : 0)
  if (start > before) writer.moveStart(start)
  // Also what an earlier run published as gone and could not remove any more.
  for (const { base, end } of closed) {
    if (end > start) break
    rmSync(topic.layout.segment(topic.name, partition, base), { force: true })
    deletedSegments.inc({ topic: topic.name })
  }
}

/** One run over a partition that nobody writes; left alone when somebody does. */
export async function retainIdle(
  topic: TopicHandle,
  partition: number,
  lowest: Lowest,
  settlement: Settlement,
  nowMs: number,
): Promise<void> {
  const slot = topic.anySlot(partition)
  // Never written, or nothing in it.
  if (!slot || slot.start === slot.end) return
  const writer = await PartitionWriter.open(topic, partition, 0, settlement)
  if (!writer) return
  try {
    await retain(writer, lowest, nowMs)
  } finally {
    await writer.close()
  }
}
