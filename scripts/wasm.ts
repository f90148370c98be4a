/**
 * Compiles src/event/assembly/json-scan.ts, with what it imports, to the two artefacts beside it: `json-scan.simd.wasm`,
 * and `json-scan.words.wasm` for CPUs whose WebAssembly has no SIMD. `--check` writes nothing and fails when what is
 * committed is not what the source makes; the compiler's version is that of the lockfile, so it makes the same bytes
 * everywhere.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import asc from 'assemblyscript/asc'

const FOLDER = join(import.meta.dirname, '..', 'src', 'event', 'assembly')
const SOURCE = 'json-scan.ts'
/** First memory, in pages of 64 KiB: slots, field tables, atoms, and a body of half a MiB. */
const PAGES = 16
/** A body of 1 GiB, which is more than any setting lets in, and a level of nesting for each of its bytes. */
const PAGES_MAX = 32_776

const ARTEFACTS = [
  { file: 'json-scan.simd.wasm', features: ['--enable', 'simd'] },
  { file: 'json-scan.words.wasm', features: ['--disable', 'simd'] },
]

async function compile(features: string[]): Promise<Uint8Array> {
  let binary: Uint8Array | undefined
  const options = [
    SOURCE,
    ...['--outFile', 'out.wasm', '-O3', '--converge', '--noAssert', '--runtime', 'stub'],
    // Nothing is allocated, so nothing of the compiler's own lies in memory, and nothing is imported.
    ...['--use', 'abort=', '--memoryBase', '1024'],
    ...['--initialMemory', String(PAGES), '--maximumMemory', String(PAGES_MAX)],
    ...features,
  ]
  const { error, stderr } = await asc.main(options, {
    readFile: (name) => {
      const path = join(FOLDER, name)
      return existsSync(path) ? readFileSync(path, 'utf8') : null
    },
    writeFile: (_, contents) => {
      if (typeof contents !== 'string') binary = contents
    },
    listFiles: () => [],
  })
  if (error || !binary) {
    console.error(stderr.toString() || error?.message)
    process.exit(1)
  }
  return binary
}

let stale = 0
for (const { file, features } of ARTEFACTS) {
  const path = join(FOLDER, file)
  const made = Buffer.from(await compile(features))
  if (existsSync(path) && readFileSync(path).equals(made)) continue
  if (process.argv.includes('--check')) {
    console.log(
      `src/event/assembly/${file} is not what its source makes; run bun scripts/wasm.ts and commit it`,
    )
    stale++
  } else {
    writeFileSync(path, made)
    console.log(`src/event/assembly/${file}: ${made.length} bytes`)
  }
}
process.exit(stale === 0 ? 0 : 1)
