/**
 * The log: an interface (`log.ts`), its errors, and two implementations that keep the same promises: embedded
 * (append-only files, nothing to install) and Kafka.
 */
import type { KafkaLog, KafkaLogOptions } from './kafka/index.ts'

export { type EmbeddedLogOptions, openEmbeddedLog } from './embedded/index.ts'
export * from './errors.ts'
export type { KafkaLog, KafkaLogOptions } from './kafka/index.ts'
export * from './log.ts'
export * from './topics.ts'

/**
 * Opens the log on Kafka; see `kafka/index.ts`. Its client is loaded here and not before: that takes 0.6 s of CPU, which
 * no process on the embedded log shall spend.
 */
export async function openKafkaLog(options: KafkaLogOptions): Promise<KafkaLog> {
  const kafka = await import('./kafka/index.ts')
  return kafka.openKafkaLog(options)
}
