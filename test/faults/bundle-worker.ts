/** A worker process of a fault test in one file, so that one of its many lives begins in 0.1 s instead of 1 s. */
import { cpSync } from 'node:fs'
import { join } from 'node:path'

const ROOT = join(import.meta.dir, '../..')
/** Files that modules look for, and where they do, once they are one file. */
const READ_BY_MODULES = [
  [join(ROOT, 'src/event/assembly'), 'assembly'],
  [join(ROOT, 'node_modules/@platformatic/wasm-utils/dist/native.wasm'), '../dist/native.wasm'],
] as const

/** Puts `entry` with all its modules below `folder`; gives the path of the file. */
export async function bundleWorker(entry: string, folder: string): Promise<string> {
  const outdir = join(folder, 'worker')
  const { outputs } = await Bun.build({ entrypoints: [entry], target: 'bun', outdir })
  for (const [from, to] of READ_BY_MODULES) cpSync(from, join(outdir, to), { recursive: true })
  return outputs[0]!.path
}
