/**
 * `npm run check`: format and lint, types, import rules, dead code, generated reference, compiled loops, links,
 * portability. All run, also when one fails; each prints one line with its time, and what it said when it failed.
 */
import { spawn } from 'node:child_process'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const bin = (name) => join(root, 'node_modules', '.bin', name)

const checks = [
  {
    name: 'format and lint',
    command: [bin('biome'), 'check', '--error-on-warnings', '--diagnostic-level=warn', '.'],
  },
  { name: 'types', command: [bin('tsc'), '--pretty', 'false'] },
  {
    name: 'import rules',
    command: [
      bin('depcruise'),
      '--config',
      '.dependency-cruiser.cjs',
      '--output-type',
      'err',
      'src',
      'test',
      'scripts',
      'bench',
    ],
  },
  { name: 'dead code', command: [bin('knip'), '--no-progress'] },
  { name: 'reference', command: [bin('bun'), 'scripts/reference.ts', '--check'] },
  { name: 'WebAssembly', command: [bin('bun'), 'scripts/wasm.ts', '--check'] },
  { name: 'links', command: [bin('bun'), 'scripts/links.ts'] },
  { name: 'portability', command: [process.execPath, 'scripts/portability.mjs'] },
]

function run({ name, command }) {
  const began = Date.now()
  return new Promise((resolve) => {
    let said = ''
    const child = spawn(command[0], command.slice(1), { cwd: root, env: { ...process.env, NO_COLOR: '1' } })
    const hear = (chunk) => {
      said += chunk
    }
    child.stdout.on('data', hear)
    child.stderr.on('data', hear)
    child.on('error', (error) => resolve({ name, failed: true, said: error.message, ms: Date.now() - began }))
    child.on('close', (code) => resolve({ name, failed: code !== 0, said, ms: Date.now() - began }))
  })
}

let failures = 0
// All at once; told in the order of the list.
for (const result of checks.map(run)) {
  const { name, failed, said, ms } = await result
  console.log(`${failed ? 'failed' : 'ok    '} ${(ms / 1000).toFixed(1).padStart(5)} s  ${name}`)
  if (!failed) continue
  failures++
  console.log(said.trimEnd().replace(/^/gm, '         '))
}
if (failures > 0) console.log(`${failures} of ${checks.length} checks failed`)
process.exit(failures === 0 ? 0 : 1)
