/**
 * `headrace dedup snapshot|restore`: the dedup indexes of an ingest process, for a move to another machine. Without
 * them the new machine builds its own from the raw log, 5 µs per event in the window.
 */
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { EXIT, type ExitCode } from './exit.ts'
import { settingsOf } from './options.ts'
import { formatTable } from './table.ts'

type DedupFlags = { dataDir?: string; json?: boolean }
type Indexes = { partition: number; bytes: number }[]

export function addDedup(program: Command, done: (code: ExitCode) => void): void {
  const dedup = program.command('dedup').description('the dedup indexes of this machine')
  verb(dedup, 'snapshot')
    .description('copy them into a new folder; ingest may run meanwhile')
    .addHelpText(
      'after',
      `
Example:
  headrace dedup snapshot /backup/dedup-monday --data-dir /var/lib/headrace

What ingest takes after the copy is read from the raw log where the copy is opened.`,
    )
    .action(async (folder: string, flags: DedupFlags) => {
      const { snapshotDedup } = await import('../ingest/index.ts')
      show(snapshotDedup(settingsOf(flags).dataDir, resolve(folder)), flags)
      done(EXIT.done)
    })
  verb(dedup, 'restore')
    .description('bring the indexes of a snapshot to this machine, before ingest starts on it')
    .addHelpText(
      'after',
      `
Example:
  headrace dedup restore /backup/dedup-monday --data-dir /var/lib/headrace

Nothing is overwritten: it refuses when an index of one of the partitions is there.`,
    )
    .action(async (folder: string, flags: DedupFlags) => {
      const { restoreDedup } = await import('../ingest/index.ts')
      show(restoreDedup(resolve(folder), settingsOf(flags).dataDir), flags)
      done(EXIT.done)
    })
}

function verb(dedup: Command, name: string): Command {
  return dedup
    .command(`${name} <folder>`)
    .option('--data-dir <path>', 'folder of the embedded parts (HEADRACE_DATA_DIR)')
    .option('--json', 'one JSON array of partitions and bytes')
}

function show(indexes: Indexes, flags: DedupFlags): void {
  const text = flags.json
    ? JSON.stringify(indexes)
    : formatTable(
        ['PARTITION', 'BYTES'],
        indexes.map(({ partition, bytes }) => [String(partition), String(bytes)]),
      )
  process.stdout.write(`${text}\n`)
}
