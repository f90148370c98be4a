/**
 * One ingest process of a fault test: `startIngest` on a real log and a real Postgres, and nothing else of the product,
 * so that a life costs a fifth of a second. Argument: its plan, as JSON; see life.ts.
 */
import { ProjectCatalog, readSettings } from '../../../src/catalog/index.ts'
import { startIngest } from '../../../src/ingest/index.ts'
import { createLogger } from '../../../src/observe/index.ts'
import { live } from './life.ts'
import type { IngestPlan } from './plan.ts'

const CONNECTIONS_MAX = 8

const plan = JSON.parse(process.argv[2]!) as IngestPlan
const { partitions } = plan
const logger = createLogger('ingest', 'info')
const settings = readSettings({ HEADRACE_DATA_DIR: plan.dataDir, ...plan.settings })
let projects: ProjectCatalog | undefined
void live(
  plan,
  CONNECTIONS_MAX,
  ({ log, sql, fatal }) => {
    projects ??= new ProjectCatalog(sql, { unknownMs: 0 })
    return startIngest({ settings, log, sql, projects, partitions, logger, fatal })
  },
  async () => projects?.close(),
)
