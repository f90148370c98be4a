/**
 * What it costs that an insert is synced before it is answered (`fsync_after_insert`, `fsync_part_directory` of table
 * `events`): the same rows, one insert at a time, in turn into a table that syncs and one that does not. Prints, for
 * inserts of 1,000 and of 50,000 rows, the median time of both, CPU of the engine, and what the engine itself says that
 * it waited for syncs (its counters `FileSync…`, `DirectorySync…`): the median per insert, and that per row.
 * The waiting is the disk's: it says nothing of another machine, and little of this one when others write to it.
 *
 * `bun bench/insert-fsync.ts [rounds]`, four times as many of the small ones.
 */
import { EVENTS } from '../src/event/index.ts'
import { plainEventRow } from '../test/support/event-row.ts'
import { startTestWarehouse } from '../test/support/warehouse.ts'
import { cpuUsOf, quantile, table } from './measure.ts'

const rounds = Number(process.argv[2] ?? 7)
const SIZES = [
  { size: 1_000, rounds: 4 * rounds },
  { size: 50_000, rounds },
]
type Syncs = { count: number; waitedUs: number }

const UNSYNCED = { ...EVENTS, name: 'events_unsynced' }
const ROW_NOISE_BYTES = 700

const test = await startTestWarehouse()
try {
  const { warehouse } = test
  await warehouse.command(`CREATE TABLE ${UNSYNCED.name} AS ${EVENTS.name}`)
  await warehouse.command(
    `ALTER TABLE ${UNSYNCED.name} MODIFY SETTING fsync_after_insert = 0, fsync_part_directory = 0`,
  )
  const lines: string[][] = []
  for (const { size, rounds } of SIZES) {
    const took = { synced: [] as number[], unsynced: [] as number[] }
    const cpu = { synced: 0, unsynced: 0 }
    const syncs: Syncs[] = []
    for (let round = 0; round <= rounds; round++) {
      const rows = makeRows(size, round)
      const order = [
        ['synced', EVENTS],
        ['unsynced', UNSYNCED],
      ] as const
      for (const [name, target] of round % 2 === 0 ? order : [...order].reverse()) {
        const syncsBefore = await readSyncs()
        const before = cpuUsOf(test.pid)
        const started = performance.now()
        await warehouse.insertRows({ table: target, rows, token: `${name}-${size}-${round}` })
        // The first round warms both.
        if (round === 0) continue
        took[name].push(performance.now() - started)
        cpu[name] += cpuUsOf(test.pid) - before
        if (name === 'unsynced') continue
        const { count, waitedUs } = await readSyncs()
        syncs.push({ count: count - syncsBefore.count, waitedUs: waitedUs - syncsBefore.waitedUs })
      }
    }
    const waitedMs = quantile(
      syncs.map(({ waitedUs }) => waitedUs / 1_000),
      0.5,
    )
    const each = (us: number) => (us / rounds / size).toFixed(1)
    lines.push([
      size.toLocaleString('en'),
      quantile(took.synced, 0.5).toFixed(1),
      quantile(took.unsynced, 0.5).toFixed(1),
      String(
        quantile(
          syncs.map(({ count }) => count),
          0.5,
        ),
      ),
      waitedMs.toFixed(1),
      ((waitedMs * 1_000) / size).toFixed(2),
      each(cpu.synced),
      each(cpu.unsynced),
    ])
  }
  const head = ['rows', 'synced ms', 'unsynced ms', 'syncs', 'waited ms', 'waited µs per row']
  console.log(table([...head, 'CPU µs per row', 'unsynced CPU'], lines))
} finally {
  await test.stop()
}

async function readSyncs(): Promise<Syncs> {
  const [found] = await test.warehouse.query<Syncs>(
    `SELECT sumIf(value, event IN ('FileSync', 'DirectorySync')) AS count,
       sumIf(value, event IN ('FileSyncElapsedMicroseconds', 'DirectorySyncElapsedMicroseconds')) AS waitedUs
     FROM system.events`,
  )
  return found!
}

/** 1.2 kB each, a good half of which does not compress. */
function makeRows(count: number, round: number): Uint8Array[] {
  return Array.from({ length: count }, (_, n) => {
    const noise = Buffer.from(crypto.getRandomValues(new Uint8Array(ROW_NOISE_BYTES / 2))).toString('hex')
    return EVENTS.encode(
      plainEventRow({
        distinct_id: `user-${n % 5_000}`,
        properties: JSON.stringify({ $current_url: 'https://example.com/', $lib: 'web', noise }),
        person_properties: '{"email":"somebody@example.com","plan":"free"}',
        _partition: round,
        _offset: n,
      }),
    )
  })
}
