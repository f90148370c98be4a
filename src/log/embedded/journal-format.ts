/**
 * The bytes of a commit journal (little endian). Pure.
 * ```
 * journal  4096-byte header, then two halves of equal size; entries begin at whole blocks of 4096 bytes
 * header   8 magic · 16 journal id · u32 crc
 * entry    8 magic · u32 crc of what follows up to the first frame · u32 table bytes · 16 journal id · u64 number
 *          · u64 clean · u32 parts · u32 entry bytes, the table, then the frames
 * table    per part: u64 segment · u64 byte in the segment · u32 place in the entry · u32 frame bytes · u32 frame sum
 *          · label
 * label    16 log id · u32 partition · u16 name bytes · topic name
 * ```
 * Numbers rise by one through both halves, so that an entry of an earlier round is never taken for a new one. All
 * entries before number `clean` are durable in their segments. Frames carry their own checksums, and the sum of those
 * stands for the bytes: blocks are used again, so that a torn entry may hold a whole record of an older one, in
 * the place of its own. The journal id, which nobody outside knows, keeps bytes that a client sent from being taken for an entry.
 *
 * An entry fills whole blocks: writing one never touches a block that holds an acknowledged one, and never has to
 * read a block back first.
 */
import { uuidBytes, uuidText } from '../../event/index.ts'
import { crc, getU64, putU64 } from './format.ts'

export const BLOCK_BYTES = 4096
export const JOURNAL_HEADER_BYTES = 4096
const MAGIC = Buffer.from('HRJRNL\x01\n', 'latin1')
/** In a byte order that no UTF-8 text has. */
const ENTRY_MAGIC = Buffer.from([0xf5, 0x48, 0x52, 0x4a, 0x45, 0x01, 0xc1, 0x0a])
const ENTRY_HEADER_BYTES = 56
const PLACE_BYTES = 28
const LABEL_HEADER_BYTES = 22

/** Where a frame of an entry belongs, and where it lies in the entry. */
export type JournalPart = {
  label: Buffer
  segment: number
  position: number
  at: number
  length: number
  /** Of all checksums in the frame (format.ts). */
  sum: number
}
/** The same, read back. */
export type ReadPart = Omit<JournalPart, 'label'> & { logId: string; topic: string; partition: number }
export type ReadEntry = { number: number; clean: number; parts: ReadPart[] }

/** How many bytes of whole blocks `bytes` take. */
export function inBlocks(bytes: number): number {
  return Math.ceil(bytes / BLOCK_BYTES) * BLOCK_BYTES
}

/** What every table entry of a partition ends with; made once per writer. */
export function partLabel(logId: string, partition: number, topic: string): Buffer {
  const name = Buffer.from(topic)
  const bytes = Buffer.alloc(LABEL_HEADER_BYTES + name.length)
  bytes.set(uuidBytes(logId)!)
  bytes.writeUInt32LE(partition, 16)
  bytes.writeUInt16LE(name.length, 20)
  name.copy(bytes, LABEL_HEADER_BYTES)
  return bytes
}

/** Where the frames of an entry begin that has at most these parts. */
export function framesFrom(labels: Iterable<Buffer>): number {
  let bytes = ENTRY_HEADER_BYTES
  for (const label of labels) bytes += PLACE_BYTES + label.length
  return bytes
}

export function encodeJournalHeader(id: string): Buffer {
  const bytes = Buffer.alloc(JOURNAL_HEADER_BYTES)
  MAGIC.copy(bytes)
  bytes.set(uuidBytes(id)!, 8)
  bytes.writeUInt32LE(crc(bytes, 0, 24), 24)
  return bytes
}

export function isJournalHeader(bytes: Buffer, id: string): boolean {
  return (
    bytes.length >= JOURNAL_HEADER_BYTES &&
    bytes.subarray(0, 8).equals(MAGIC) &&
    bytes.readUInt32LE(24) === crc(bytes, 0, 24) &&
    uuidText(bytes, 8) === id
  )
}

/** Writes header and table in front of the frames, which are in `bytes` already, and blanks the rest of the block. */
export function encodeEntry(
  bytes: Buffer,
  entry: { id: Buffer; number: number; clean: number; parts: readonly JournalPart[]; bytes: number },
): void {
  let at = ENTRY_HEADER_BYTES
  for (const part of entry.parts) {
    putU64(bytes, at, part.segment)
    putU64(bytes, at + 8, part.position)
    bytes.writeUInt32LE(part.at, at + 16)
    bytes.writeUInt32LE(part.length, at + 20)
    bytes.writeUInt32LE(part.sum, at + 24)
    part.label.copy(bytes, at + PLACE_BYTES)
    at += PLACE_BYTES + part.label.length
  }
  ENTRY_MAGIC.copy(bytes)
  bytes.writeUInt32LE(at - ENTRY_HEADER_BYTES, 12)
  entry.id.copy(bytes, 16)
  putU64(bytes, 32, entry.number)
  putU64(bytes, 40, entry.clean)
  bytes.writeUInt32LE(entry.parts.length, 48)
  bytes.writeUInt32LE(entry.bytes, 52)
  bytes.writeUInt32LE(crc(bytes, 12, at), 8)
  bytes.fill(0, entry.bytes, inBlocks(entry.bytes))
}

/** The entry at `at`, its parts with places counted from the beginning of `bytes`; undefined when there is none. */
export function decodeEntry(bytes: Buffer, at: number, id: Buffer): ReadEntry | undefined {
  if (at + ENTRY_HEADER_BYTES > bytes.length || bytes.compare(ENTRY_MAGIC, 0, 8, at, at + 8) !== 0)
    return undefined
  const tableEnd = at + ENTRY_HEADER_BYTES + bytes.readUInt32LE(at + 12)
  if (tableEnd > bytes.length || bytes.compare(id, 0, 16, at + 16, at + 32) !== 0) return undefined
  if (bytes.readUInt32LE(at + 8) !== crc(bytes, at + 12, tableEnd)) return undefined
  const parts: ReadPart[] = []
  let place = at + ENTRY_HEADER_BYTES
  for (let left = bytes.readUInt32LE(at + 48); left > 0; left--) {
    const label = place + PLACE_BYTES
    const nameEnd = label + LABEL_HEADER_BYTES + bytes.readUInt16LE(label + 20)
    parts.push({
      logId: uuidText(bytes, label),
      partition: bytes.readUInt32LE(label + 16),
      topic: bytes.toString('utf8', label + LABEL_HEADER_BYTES, nameEnd),
      segment: getU64(bytes, place),
      position: getU64(bytes, place + 8),
      at: at + bytes.readUInt32LE(place + 16),
      length: bytes.readUInt32LE(place + 20),
      sum: bytes.readUInt32LE(place + 24),
    })
    place = nameEnd
  }
  return { number: getU64(bytes, at + 32), clean: getU64(bytes, at + 40), parts }
}

/**
 * The entries of a journal that may not be durable in their segments yet, in order, and which numbers among them are
 * missing: that is damage, for only the last entry of a journal can have been cut off.
 */
export function openEntries(bytes: Buffer, id: string): { entries: ReadEntry[]; missing: number[] } {
  const idBytes = Buffer.from(uuidBytes(id)!)
  const all: ReadEntry[] = []
  let clean = 0
  for (let at = JOURNAL_HEADER_BYTES; at < bytes.length; at += BLOCK_BYTES) {
    const entry = decodeEntry(bytes, at, idBytes)
    if (!entry) continue
    all.push(entry)
    clean = Math.max(clean, entry.clean)
  }
  const entries = all.filter((entry) => entry.number >= clean).sort((a, b) => a.number - b.number)
  const missing: number[] = []
  let next = clean
  for (const { number } of entries) {
    for (; next < number; next++) missing.push(next)
    next = number + 1
  }
  return { entries, missing }
}
