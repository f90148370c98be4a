/**
 * A sender of numbered records, for tests that kill: each number is sent once and never again, in rising order, so
 * what is in the log afterwards tells about loss, copies and order.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { isRetriable } from '../../event/index.ts'
import type { Log } from '../log.ts'

export type Ack = { number: number; partition: number; offset: number }

const BATCH = 10
const AT_ONCE = 4
const PADDING_BYTES_MAX = 1500
const AFTER_FAILURE_MS = 20

export function encodeNumber(number: number): Buffer {
  const bytes = Buffer.alloc(8 + ((number * 7919) % PADDING_BYTES_MAX), number & 0xff)
  bytes.writeDoubleLE(number)
  return bytes
}

/** Throws when the bytes are not exactly what was sent. */
export function decodeNumber(value: Uint8Array): number {
  const bytes = Buffer.from(value.buffer, value.byteOffset, value.byteLength)
  const number = bytes.readDoubleLE(0)
  if (!bytes.equals(encodeNumber(number)))
    throw new Error(`the bytes of number ${number} are not what was sent`)
  return number
}

/**
 * Sends until `signal` aborts, numbers from `from` on; number n goes to partition n modulo `partitions`. A send that
 * fails because of the world is not repeated; any other failure is thrown.
 */
export async function sendNumbered(
  log: Log,
  options: { topic: string; partitions: number; from: number; deadlineMs: number },
  onAck: (acks: Ack[]) => void,
  signal: AbortSignal,
): Promise<void> {
  const { topic, partitions, deadlineMs } = options
  const producer = log.producer({ name: 'numbered', deadlineMs })
  const header = Buffer.from('numbered')
  let next = options.from
  const loop = async () => {
    while (!signal.aborted) {
      const numbers = Array.from({ length: BATCH }, () => next++)
      const records = numbers.map((number) => ({
        topic,
        partition: number % partitions,
        header,
        value: encodeNumber(number),
      }))
      try {
        const positions = await producer.send(records)
        onAck(positions.map(({ partition, offset }, i) => ({ number: numbers[i]!, partition, offset })))
      } catch (error) {
        if (!isRetriable(error)) throw error
        await delay(AFTER_FAILURE_MS)
      }
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, loop))
  await producer.close()
}
