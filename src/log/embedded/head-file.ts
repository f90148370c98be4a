/**
 * The head file of a topic: where each partition begins and durably ends, so that readers in other processes know
 * what they may read, and are woken when it changes. One file per topic, one 64-byte slot per partition; only the
 * holder of the partition's writer lock writes its slot, after the fdatasync of what it announces.
 * ```
 * header  8 magic · 16 log id · u32 partitions · u32 state (1 = about to be deleted) · … · u32 crc at 60
 * slot    8 boot mark · u64 start · u64 end · u64 base of the last segment · u64 durable bytes of it · … · u32 crc
 * ```
 * The file is never synced after it was made. While the machine stays up its slots are exact; after a power cut
 * they may be old, which the boot mark shows, and whoever needs the partition first recovers it (recover.ts).
 * A slot may be read while it is written: its checksum tells, and it is read again.
 */
import { createHash } from 'node:crypto'
import { closeSync, openSync, readFileSync, readSync, writeSync } from 'node:fs'
import { uuidBytes, uuidText } from '../../event/index.ts'
import { crc, getU64, putU64 } from './format.ts'
import { writeDurably } from './layout.ts'

const MAGIC = Buffer.from('HRHEAD\x01\n', 'latin1')
const SLOT_BYTES = 64
const STATE_DELETING = 1
/** A slot that is written right now is whole a moment later. */
const TORN_READS_MAX = 50

/** What is known of one partition. `bootMark` says at which start of the machine it was written. */
export type Slot = {
  /** First offset that can be read. */
  start: number
  /** The offset that the next record will get; everything below is durable. */
  end: number
  /** Base offset of the last segment, and how many of its bytes are durable. */
  segment: number
  bytes: number
  bootMark: string
}

/** A mark of 8 bytes, hex, that changes with every start of the machine. */
export function bootMark(bootId = readBootId()): string {
  return createHash('sha256').update(bootId).digest('hex').slice(0, 16)
}

function readBootId(): string {
  if (process.platform === 'darwin')
    return Bun.spawnSync(['sysctl', '-n', 'kern.bootsessionuuid']).stdout.toString().trim()
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
}

function encodeHeader(logId: string, partitions: number, deleting: boolean): Buffer {
  const bytes = Buffer.alloc(SLOT_BYTES)
  MAGIC.copy(bytes)
  bytes.set(uuidBytes(logId)!, 8)
  bytes.writeUInt32LE(partitions, 24)
  bytes.writeUInt32LE(deleting ? STATE_DELETING : 0, 28)
  bytes.writeUInt32LE(crc(bytes, 0, 60), 60)
  return bytes
}

function encodeSlot(bytes: Buffer, at: number, slot: Slot): void {
  bytes.fill(0, at, at + SLOT_BYTES)
  bytes.write(slot.bootMark, at, 8, 'hex')
  putU64(bytes, at + 8, slot.start)
  putU64(bytes, at + 16, slot.end)
  putU64(bytes, at + 24, slot.segment)
  putU64(bytes, at + 32, slot.bytes)
  bytes.writeUInt32LE(crc(bytes, at, at + 60), at + 60)
}

function decodeSlot(bytes: Buffer, at: number): Slot | undefined {
  if (bytes.readUInt32LE(at + 60) !== crc(bytes, at, at + 60)) return undefined
  return {
    bootMark: bytes.toString('hex', at, at + 8),
    start: getU64(bytes, at + 8),
    end: getU64(bytes, at + 16),
    segment: getU64(bytes, at + 24),
    bytes: getU64(bytes, at + 32),
  }
}

function isBlank(bytes: Buffer, at: number): boolean {
  for (let i = at; i < at + SLOT_BYTES; i++) if (bytes[i] !== 0) return false
  return true
}

export type HeadContent = {
  logId: string
  deleting: boolean
  /** Undefined where nobody has written yet, or where the slot is damaged. */
  slots: (Slot | undefined)[]
}

export class HeadFile {
  private readonly buffer: Buffer

  private constructor(
    private fd: number,
    readonly partitions: number,
  ) {
    this.buffer = Buffer.alloc(SLOT_BYTES * (partitions + 1))
  }

  /** Makes the head file of a new topic, or in place of a lost one. */
  static create(path: string, logId: string, partitions: number): void {
    const bytes = Buffer.alloc(SLOT_BYTES * (partitions + 1))
    encodeHeader(logId, partitions, false).copy(bytes)
    writeDurably(path, bytes)
  }

  /** Undefined when there is none. */
  static open(path: string, partitions: number): HeadFile | undefined {
    try {
      return new HeadFile(openSync(path, 'r+'), partitions)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      throw error
    }
  }

  /** The whole file; undefined when its header is damaged. Cost: one system call and a checksum per partition. */
  read(): HeadContent | undefined {
    const { buffer } = this
    for (let tries = 1; ; tries++) {
      const length = readSync(this.fd, buffer, 0, buffer.length, 0)
      buffer.fill(0, length)
      const headerGood = buffer.readUInt32LE(60) === crc(buffer, 0, 60) && buffer.subarray(0, 8).equals(MAGIC)
      const slots: (Slot | undefined)[] = []
      let torn = !headerGood
      for (let at = SLOT_BYTES; at < buffer.length; at += SLOT_BYTES) {
        const slot = decodeSlot(buffer, at)
        if (!slot && !isBlank(buffer, at)) torn = true
        slots.push(slot)
      }
      if (torn && tries < TORN_READS_MAX) continue
      if (!headerGood) return undefined
      return { logId: uuidText(buffer, 8), deleting: buffer.readUInt32LE(28) === STATE_DELETING, slots }
    }
  }

  /** Writes the slots of neighbouring partitions, beginning with `first`, at once. */
  write(first: number, slots: Slot[]): void {
    const bytes = Buffer.alloc(slots.length * SLOT_BYTES)
    for (let i = 0; i < slots.length; i++) encodeSlot(bytes, i * SLOT_BYTES, slots[i]!)
    writeSync(this.fd, bytes, 0, bytes.length, (first + 1) * SLOT_BYTES)
  }

  /** Says whether the topic is about to be deleted, so that its writers let go. */
  writeDeleting(logId: string, deleting: boolean): void {
    writeSync(this.fd, encodeHeader(logId, this.partitions, deleting), 0, SLOT_BYTES, 0)
  }

  /** Later writes fail: the number of a closed descriptor may be another file's by then. */
  close(): void {
    if (this.fd >= 0) closeSync(this.fd)
    this.fd = -1
  }
}
