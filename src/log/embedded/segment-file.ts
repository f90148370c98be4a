/** Segment files: made durably, opened with their header checked, and read in pieces. */
import { closeSync, fstatSync, openSync, read, readSync } from 'node:fs'
import { open, rename } from 'node:fs/promises'
import { logError } from '../errors.ts'
import {
  decodeSegmentHeader,
  encodeSegmentHeader,
  SEGMENT_HEADER_BYTES,
  type SegmentHeader,
} from './format.ts'
import type { TopicHandle } from './topic-handle.ts'

/** What was appended a moment ago is in memory: reading so little of it at once is cheaper than a thread. */
const READ_INLINE_BYTES = 64 * 1024

/** Reads up to `length` bytes; fewer only at the end of the file. Large pieces are read on another thread. */
export async function readAt(fd: number, length: number, position: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafeSlow(length)
  let got = 0
  while (got < length) {
    const more =
      length <= READ_INLINE_BYTES
        ? readSync(fd, bytes, got, length - got, position + got)
        : await readAway(fd, bytes, got, length - got, position + got)
    if (more === 0) break
    got += more
  }
  return got === length ? bytes : bytes.subarray(0, got)
}

function readAway(fd: number, bytes: Buffer, at: number, length: number, position: number): Promise<number> {
  return new Promise((resolve, reject) =>
    read(fd, bytes, at, length, position, (error, count) => (error ? reject(error) : resolve(count))),
  )
}

/** Makes the segment that begins with `base`: it is there with its header, durably, or not at all. */
export async function createSegment(topic: TopicHandle, partition: number, base: number): Promise<void> {
  const path = topic.layout.segment(topic.name, partition, base)
  const temporary = `${path}.new`
  const file = await open(temporary, 'w')
  try {
    await file.write(encodeSegmentHeader({ logId: topic.logId, partition, base, madeMs: Date.now() }))
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(temporary, path)
  const folder = await open(topic.layout.partition(topic.name, partition), 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}

export type OpenSegment = { fd: number; header: SegmentHeader; fileBytes: number }

/** Opens a segment. Undefined when there is none with this base; HR_LOG_CORRUPT when its header is damaged. */
export function openSegment(
  topic: TopicHandle,
  partition: number,
  base: number,
  flags: 'r' | 'r+',
): OpenSegment | undefined {
  let fd: number
  try {
    fd = openSync(topic.layout.segment(topic.name, partition, base), flags)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw logError('HR_LOG_UNAVAILABLE', `a segment of ${topic.name}/${partition} cannot be opened`, error)
  }
  const bytes = Buffer.alloc(SEGMENT_HEADER_BYTES)
  readSync(fd, bytes, 0, bytes.length, 0)
  const header = decodeSegmentHeader(bytes)
  if (header && header.logId === topic.logId && header.partition === partition && header.base === base)
    return { fd, header, fileBytes: fstatSync(fd).size }
  closeSync(fd)
  if (header && header.logId !== topic.logId)
    throw logError(
      'HR_LOG_OUT_OF_RANGE',
      `topic ${topic.name} was made again: what is there now is log ${header.logId}, not ${topic.logId}`,
    )
  throw corrupt(topic, partition, base, base, 0, 'the header of the segment is damaged')
}

/** The error for damage: names everything that repair needs. */
export function corrupt(
  topic: TopicHandle,
  partition: number,
  offset: number,
  segment: number,
  byte: number,
  what: string,
) {
  return logError(
    'HR_LOG_CORRUPT',
    `${topic.name}/${partition} is damaged at offset ${offset}, byte ${byte} of segment ${segment}: ${what}`,
  )
}
