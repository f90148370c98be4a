/**
 * A record of the spool: the raw record, and where it goes. Draining it changes nothing: the same lane, partition,
 * header (with the uuid) and value. Pure.
 * ```
 * header  u8 version = 1 · u8 lane (0 main, 1 historical) · u16 partition (little endian) · raw header
 * value   as it is
 * ```
 */
import { copyBytes, RAW_TOPICS } from '../../event/index.ts'
import { logError, type SendRecord } from '../../log/index.ts'

const VERSION = 1
const PREFIX_BYTES = 4

/** Where the records of a spool lie in its log. */
export const SPOOL_TOPIC = 'spool'
export const SPOOL_PARTITION = 0

/** `records` as the spool keeps them. */
export function toSpool(records: readonly SendRecord[]): SendRecord[] {
  const spooled = new Array<SendRecord>(records.length)
  for (let i = 0; i < records.length; i++) {
    const record = records[i]!
    const lane = (RAW_TOPICS as readonly string[]).indexOf(record.topic)
    if (lane < 0) throw new Error(`topic ${record.topic} is no lane of raw events`)
    const header = Buffer.allocUnsafe(PREFIX_BYTES + record.header.length)
    header[0] = VERSION
    header[1] = lane
    header.writeUInt16LE(record.partition, 2)
    copyBytes(record.header, header, PREFIX_BYTES)
    spooled[i] = { topic: SPOOL_TOPIC, partition: SPOOL_PARTITION, header, value: record.value }
  }
  return spooled
}

/** The raw record of a spooled one. Throws HR_LOG_CORRUPT when it is none. */
export function fromSpool(record: { offset: number; header: Uint8Array; value: Uint8Array }): SendRecord {
  const { header, value, offset } = record
  const topic = RAW_TOPICS[header[1] ?? 255]
  if (header.length < PREFIX_BYTES || header[0] !== VERSION || topic === undefined)
    throw logError('HR_LOG_CORRUPT', `offset ${offset} of the spool is no record of this version`)
  return { topic, partition: header[2]! | (header[3]! << 8), header: header.subarray(PREFIX_BYTES), value }
}
