/**
 * The shared vocabulary: what the stages say to each other. Record types with their byte layouts, topics, tables,
 * reasons, ids, places and the one error type. Pure: imports nothing of ours, does no input or output.
 */
export * from './bytes.ts'
export * from './capture-report.ts'
export * from './chain.ts'
export * from './distinct-id.ts'
export * from './errors.ts'
export * from './json-fields.ts'
export * from './json-scan.ts'
export * from './partition.ts'
export * from './printable.ts'
export * from './raw-record.ts'
export * from './reasons.ts'
export * from './receipt.ts'
export * from './row-codec.ts'
export * from './row-record.ts'
export { JsonScanError, JsonValuesError } from './scan-errors.ts'
export * from './source.ts'
export * from './tables.ts'
export * from './timestamp.ts'
export * from './topics.ts'
export * from './uuid.ts'
