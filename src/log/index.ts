/**
 * The log: an interface (`log.ts`), its errors, and two implementations that keep the same promises: embedded
 * (append-only files, nothing to install) and Kafka.
 */

export { type EmbeddedLogOptions, openEmbeddedLog } from './embedded/index.ts'
export * from './errors.ts'
export { type KafkaLog, type KafkaLogOptions, openKafkaLog } from './kafka/index.ts'
export * from './log.ts'
export * from './topics.ts'
