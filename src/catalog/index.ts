/**
 * Settings, and the state in Postgres: access by failure class, the embedded server, migrations, what the deployment
 * was born with, projects and their tokens. Tables of a stage are read and written by that stage.
 */
export { bindDeployment, DEPLOYMENT_ERRORS, type Deployment, type LogKind } from './deployment.ts'
export * from './embedded/index.ts'
export {
  changeIngestionOptions,
  INGESTION_OPTIONS,
  INGESTION_OPTIONS_ERRORS,
  type IngestionOptions,
  ingestionOptionsIn,
} from './ingestion-options.ts'
export { migrateState } from './migrate.ts'
export {
  DEFAULT_BURST_SECONDS,
  LANES,
  POLICY_ERRORS,
  type ProjectPolicy,
  policyIn,
  RESTRICTION_ACTIONS,
  type Restriction,
  type RestrictionAction,
  readPolicy,
  setPolicy,
} from './policies.ts'
export {
  classifyState,
  guardState,
  openPostgres,
  type PostgresOptions,
  type Sql,
  STATE_ERRORS,
  stateError,
  type Transaction,
} from './postgres.ts'
export { PROJECTS_STALE_MS, ProjectCatalog, type ProjectCatalogOptions } from './project-catalog.ts'
export {
  CANARY_TEAM_ID,
  createProject,
  DEFAULT_PROJECT,
  ensureCanaryProject,
  ensureDefaultProject,
  listProjects,
  PROJECT_ERRORS,
  type Project,
  readProject,
  secretKeyKind,
} from './projects.ts'
export { fromCovering } from './receipts.ts'
export {
  listRejectedRequests,
  NO_PROJECT,
  REJECTED_REQUESTS_KEPT,
  type RejectedRequest,
  RejectedRequests,
} from './rejected-requests.ts'
export { withRowsLock } from './rows-lock.ts'
export {
  parseAddress,
  readSettings,
  SETTINGS,
  SETTINGS_ERRORS,
  type Settings,
  settingsReference,
} from './settings.ts'
export {
  forgetSpools,
  listSpools,
  type RegisteredSpool,
  reportSpools,
  SPOOL_STATES,
  type SpoolReport,
  type SpoolState,
} from './spools.ts'
export { transaction } from './transaction.ts'
export {
  addToShadow,
  readShadow,
  runningShadows,
  SHADOW_SAMPLES_MAX,
  type Shadow,
  type ShadowCounts,
  type ShadowReport,
  startShadow,
  stopShadow,
} from './transformation-shadows.ts'
export {
  FIRST_GENERATION,
  newestGeneration,
  type PublishedSet,
  publishedSets,
  publishSet,
  TRANSFORMATION_ERRORS,
  type TransformationState,
  transformationKey,
  transformationsAt,
} from './transformations.ts'
export { listUsage, Meter, ProjectUsage, type UsageRow } from './usage.ts'
