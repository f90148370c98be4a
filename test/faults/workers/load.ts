/** One loader of a fault test: `startLoad` on a real log, a real Postgres and a real engine; see life.ts. */
import { startLoad } from '../../../src/load/index.ts'
import { createLogger } from '../../../src/observe/index.ts'
import { openWarehouse } from '../../../src/warehouse/index.ts'
import { live } from './life.ts'
import type { LoadPlan } from './plan.ts'

const CONNECTIONS_MAX = 14

const plan = JSON.parse(process.argv[2]!) as LoadPlan
const { partitions } = plan
const settings = { loadFlushMs: plan.flushMs, loadBusyPercent: 100, loadMemoryMb: 64 }
const logger = createLogger('load', 'info')
const warehouse = openWarehouse({ url: plan.warehouse })
void live(
  plan,
  CONNECTIONS_MAX,
  ({ log, sql, fatal }) => startLoad({ settings, log, sql, warehouse, partitions, logger, fatal }),
  () => warehouse.close(),
)
