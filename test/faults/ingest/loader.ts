/** The load process of a fault test of ingest: `startLoad` on the same log and Postgres; see worker-life.ts. */
import { startLoad } from '../../../src/load/index.ts'
import { createLogger } from '../../../src/observe/index.ts'
import { openWarehouse } from '../../../src/warehouse/index.ts'
import { live } from './worker-life.ts'
import type { LoaderPlan } from './worker-plan.ts'

const CONNECTIONS_MAX = 14
/** Seldom: the machine is busy with those that die. */
const SETTINGS = { loadFlushMs: 3_000, loadFlushRows: 50_000 }

const plan = JSON.parse(process.argv[2]!) as LoaderPlan
const { partitions } = plan
const logger = createLogger('load', 'info')
const warehouse = openWarehouse({ url: plan.warehouse })
void live(
  plan,
  CONNECTIONS_MAX,
  ({ log, sql, fatal }) => startLoad({ settings: SETTINGS, log, sql, warehouse, partitions, logger, fatal }),
  () => warehouse.close(),
)
