/**
 * The embedded warehouse as a process of its own, without a supervisor: for tests and benchmarks.
 * `bun src/warehouse/embedded/process.ts <dir> <hostname:port>` prints one line `ready <url>`, or one sentence why
 * not with exit code 3. Stops on SIGTERM and SIGINT.
 */
import { HeadraceError } from '../../event/index.ts'
import { startEmbeddedWarehouse } from './index.ts'

const [dir, address = '127.0.0.1:0'] = process.argv.slice(2)
if (!dir) {
  console.error('usage: process.ts <dir> <hostname:port>')
  process.exit(2)
}
const colon = address.lastIndexOf(':')
try {
  const warehouse = await startEmbeddedWarehouse({
    dir,
    listen: { hostname: address.slice(0, colon), port: Number(address.slice(colon + 1)) },
  })
  const stop = () => void warehouse.stop().then(() => process.exit(0))
  process.on('SIGTERM', stop)
  process.on('SIGINT', stop)
  console.log(`ready ${warehouse.url}`)
} catch (error) {
  if (!(error instanceof HeadraceError)) throw error
  console.log(`refused ${error.code} ${error.message}`)
  process.exit(3)
}
