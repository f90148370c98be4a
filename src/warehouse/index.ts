/**
 * The warehouse: ClickHouse's schema as numbered SQL, the client that inserts rows under tokens and asks which
 * sources are there, and (under `embedded/`) the engine in process for those who run no ClickHouse of their own.
 */
export * from './client.ts'
export { markedCopy, untilNothingIsCopied } from './copying.ts'
export { renderDdl, WAREHOUSE_VARIANTS, type WarehouseVariant } from './ddl.ts'
export { type DescribedTable, type DescribedView, describeSchema } from './describe.ts'
export {
  type EmbeddedWarehouse,
  type EmbeddedWarehouseOptions,
  startEmbeddedWarehouse,
  WAREHOUSE_PROCESS_ENV,
} from './embedded/index.ts'
export { quoteName, quoteString } from './embedded/sql-text.ts'
export { WAREHOUSE_ERRORS } from './errors.ts'
export { kafkaEngineDdl } from './kafka-engine.ts'
export { textLiteral } from './literal.ts'
export { type MigrationReport, migrateWarehouse, migrationFiles } from './migrate.ts'
export { changeRows, type RowChange } from './mutate.ts'
export { addProperty, type FillProgress, fillProperty } from './promote.ts'
export { PROPERTY_TYPES, type PropertyType } from './promoted.ts'
export { listProperties, type PropertyColumn } from './property-columns.ts'
export {
  everyCopy,
  localName,
  localTarget,
  monthsOf,
  onCluster,
  syncReplicas,
  systemTable,
} from './replicas.ts'
export {
  belowOffsets,
  type PresentPlace,
  type PresentSources,
  presentCopies,
  presentPlaces,
  presentSources,
  type SourceRange,
} from './sources.ts'
export { checkVersion } from './version.ts'
