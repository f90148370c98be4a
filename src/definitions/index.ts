/**
 * Definitions: which events and properties a project sends, with their types, since when, and how often. Read from what is
 * in ClickHouse, below the load progress (`collect.ts`), each row once (`store.ts`), by one process in the background
 * (`reader.ts`); shown by `show.ts`. A type is never locked in: every type that was seen is kept, with its count.
 */
export { DefinitionReader, type ReaderDeps } from './reader.ts'
export {
  type EventDefinition,
  type PropertyDefinition,
  readSchema,
  type Schema,
  schemaTables,
} from './show.ts'
export type { DefinitionLimits } from './store.ts'
