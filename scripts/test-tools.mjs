/**
 * What the tests need and npm cannot bring: Java and Maven (Kafka), Python with the `posthog` package, Go, Chromium.
 * Each is found, or fetched where the machine allows it: system packages by apt-get when we are root on a Debian,
 * Python packages into `.cache/python`. The findings go to `.cache/test-tools.json`, read by test/support/tools.ts:
 * `{ <tool>: { path } | { missing: <one line that says how to get it> } }`.
 *
 * `HEADRACE_TEST_INSTALL=off` keeps it from installing system packages; `HEADRACE_TEST_CHROMIUM` names a browser.
 */
import { spawnSync } from 'node:child_process'
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from 'node:fs'
import { delimiter, join } from 'node:path'

const POSTHOG_PYTHON = '7.91.1'
/** What the Python SDK compresses zstd with. */
const ZSTANDARD_PYTHON = '0.25.0'
/** posthog-go and everything that it is built with. */
const GO_MODULE = ['test', 'e2e', 'sdks', 'go']
const GO_MINOR_MIN = 18
const JAVA_MIN = 17
const CHROMIUM_NAMES = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable', 'chrome']
const CHROMIUM_PLACES = [
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
  '/Applications/Chromium.app/Contents/MacOS/Chromium',
]

export function prepareTestTools(root, say) {
  const cache = join(root, '.cache')
  mkdirSync(cache, { recursive: true })
  const apt = aptGet(say)
  const found = {
    java: withApt(
      apt,
      findJava,
      ['openjdk-17-jre-headless'],
      'install Java 17 or newer (Debian: apt-get install openjdk-17-jre-headless)',
    ),
    mvn: withApt(apt, () => onPath('mvn'), ['maven'], 'install Maven (Debian: apt-get install maven)'),
    python: findPython(apt, cache, say),
    go: findGo(root, apt, say),
    chromium: withApt(
      apt,
      findChromium,
      ['chromium'],
      'install Chromium or Chrome, or name one with HEADRACE_TEST_CHROMIUM (Debian: apt-get install chromium)',
    ),
  }
  for (const [tool, { missing }] of Object.entries(found)) {
    if (missing)
      say(`tests that need ${tool} ${process.env.CI === 'true' ? 'will fail' : 'are skipped'}: ${missing}`)
  }
  const file = join(cache, 'test-tools.json')
  const text = `${JSON.stringify(found, undefined, 2)}\n`
  if (existsSync(file) && readFileSync(file, 'utf8') === text) return
  writeFileSync(`${file}.${process.pid}`, text)
  renameSync(`${file}.${process.pid}`, file)
}

function answer(path, missing) {
  return path ? { path } : { missing }
}

function withApt(apt, find, packages, missing) {
  const path = find()
  if (path) return { path }
  const problem = apt(packages)
  const fetched = problem ? undefined : find()
  return answer(fetched, problem ? `${missing}; ${problem}` : missing)
}

function onPath(name) {
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    // npm puts the folders of packages in front; a tool of the machine is not there.
    if (folder.includes('node_modules')) continue
    const path = join(folder, name)
    try {
      accessSync(path, constants.X_OK)
      return path
    } catch {
      // Not here.
    }
  }
  return undefined
}

function findJava() {
  const java = onPath('java')
  if (!java) return undefined
  const said = spawnSync(java, ['-version'], { encoding: 'utf8' })
  const version = Number(/version "(\d+)/.exec(said.stderr ?? '')?.[1])
  return said.status === 0 && version >= JAVA_MIN ? java : undefined
}

function findChromium() {
  const candidates = [
    process.env.HEADRACE_TEST_CHROMIUM,
    ...CHROMIUM_NAMES.map(onPath),
    ...CHROMIUM_PLACES.filter((place) => existsSync(place)),
  ]
  return candidates.find((path) => path && spawnSync(path, ['--version'], { stdio: 'ignore' }).status === 0)
}

function findPython(apt, cache, say) {
  const venv = join(cache, 'python')
  const python = join(venv, 'bin', 'python')
  const isReady = () =>
    spawnSync(
      python,
      [
        '-c',
        `import posthog.version as v, zstandard as z; assert (v.VERSION, z.__version__) == ("${POSTHOG_PYTHON}", "${ZSTANDARD_PYTHON}")`,
      ],
      { stdio: 'ignore' },
    ).status === 0
  if (isReady()) return { path: python }
  const how = 'install Python 3 with venv and pip (Debian: apt-get install python3 python3-venv)'
  const usable = () => {
    const system = onPath('python3')
    const made =
      system && spawnSync(system, ['-c', 'import ensurepip, venv'], { stdio: 'ignore' }).status === 0
    return made ? system : undefined
  }
  const system = withApt(apt, usable, ['python3', 'python3-venv'], how)
  if (system.missing) return system
  say(`fetching posthog ${POSTHOG_PYTHON} for Python into .cache/python …`)
  for (const command of [
    [system.path, '-m', 'venv', '--clear', venv],
    [
      python,
      ...['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check'],
      `posthog==${POSTHOG_PYTHON}`,
      `zstandard==${ZSTANDARD_PYTHON}`,
    ],
  ]) {
    const done = spawnSync(command[0], command.slice(1), { encoding: 'utf8' })
    if (done.status !== 0) return { missing: `the Python SDK could not be fetched: ${lastLine(done)}` }
  }
  return isReady() ? { path: python } : { missing: 'the Python SDK was fetched but cannot be imported' }
}

/**
 * A Go that builds the driver of posthog-go; building it fetches the SDK, as go.sum pins it, and fills Go's cache, so
 * that the test itself starts at once. The SDK asks for Go 1.18, which every Debian since 12 has.
 */
function findGo(root, apt, say) {
  const how = `install Go 1.${GO_MINOR_MIN} or newer (Debian: apt-get install golang-go)`
  const usable = () => {
    const go = onPath('go')
    const said = go && spawnSync(go, ['env', 'GOVERSION'], { encoding: 'utf8' })
    const minor = Number(/^go1\.(\d+)/.exec(said?.stdout ?? '')?.[1])
    return minor >= GO_MINOR_MIN ? go : undefined
  }
  const found = withApt(apt, usable, ['golang-go'], how)
  if (found.missing) return found
  const driver = join(root, 'node_modules', '.cache', 'posthog-go')
  say('building the driver of posthog-go (the first time takes a minute) …')
  const built = spawnSync(found.path, ['build', '-o', driver, '.'], {
    cwd: join(root, ...GO_MODULE),
    encoding: 'utf8',
    env: { ...process.env, CGO_ENABLED: '0' },
  })
  return built.status === 0
    ? found
    : { missing: `posthog-go could not be fetched or built: ${lastLine(built)}` }
}

/** Installs system packages; undefined when done, else one line why not. The lists are brought up to date once. */
function aptGet(say) {
  let updated = false
  return (packages) => {
    if (process.env.HEADRACE_TEST_INSTALL === 'off') return 'HEADRACE_TEST_INSTALL is off'
    if (process.getuid?.() !== 0) return 'not root, so nothing was installed'
    if (!onPath('apt-get')) return 'this machine has no apt-get'
    say(`installing ${packages.join(' ')} with apt-get …`)
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
    const run = (...args) => spawnSync('apt-get', ['-q', '-y', ...args], { encoding: 'utf8', env })
    if (!updated) run('update')
    updated = true
    const done = run('install', '--no-install-recommends', ...packages)
    return done.status === 0 ? undefined : `apt-get: ${lastLine(done)}`
  }
}

function lastLine({ stderr, stdout, error }) {
  const lines = (stderr || stdout || error?.message || 'no reason given').trim().split('\n')
  return lines[lines.length - 1]
}
