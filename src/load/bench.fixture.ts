/** Servers for a test file of load, and a bench with an empty log and empty state for each of its tests. */
import { afterAll, afterEach, beforeAll, beforeEach, setDefaultTimeout } from 'bun:test'
import { STORED } from '../event/index.ts'
import { LoadBench, type Servers, startServers } from './load.fixture.ts'

/** Beyond it the runner kills the servers of all tests, so it must be larger than any deadline inside. */
const TEST_MS_MAX = 60_000

/** Of the file whose tests run now. */
export let servers: Servers
/** Of the test that runs now. */
export let bench: LoadBench

/** To be called once, at the top of the file. */
export function benchForEachTest(): void {
  setDefaultTimeout(TEST_MS_MAX)
  beforeAll(async () => {
    servers = await startServers()
  })
  afterAll(() => servers.stop())
  beforeEach(async () => {
    bench = await LoadBench.open(servers)
  })
  afterEach(() => bench.close())
}

export const stored = (count: number) => Array.from({ length: count }, () => ({ code: STORED, rows: 1 }))
