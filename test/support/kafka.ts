/**
 * A real Kafka (KRaft, combined broker + controller) for tests and development, on free loopback ports, with its data
 * in a temporary folder. The jars are fetched once by Maven into `.cache/kafka`.
 *
 * Promises: `startKafka` resolves when every broker takes requests; no broker outlives this process (killed by pid on
 * `stop`, and by a guard when we end without it); restarts keep ports and data.
 * Costs: 4 s and about 400 MB for one broker.
 */
import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { startTcpProxy, type TcpProxy } from './tcp-proxy.ts'

const KAFKA_VERSION = '4.4.0'
/** The logging front that Kafka 4.4 is built against; without a back end its brokers are mute. */
const SLF4J_VERSION = '1.7.36'
const CACHE = resolve(import.meta.dir, '../../.cache/kafka', KAFKA_VERSION)
const START_MS_MAX = 90_000
const WARM_UP_MS = 30_000

export type KafkaOptions = {
  brokers: 1 | 3
  /** One more listener, reached only through a TcpProxy per broker (`proxies`, `proxiedBootstrap`). */
  proxied?: boolean
  /** One more listener with TLS and SASL/PLAIN (`secureBootstrap`). PEM texts; the key in PKCS #8. */
  secure?: { certificate: string; key: string; username: string; password: string }
  /** Further broker settings. */
  settings?: Record<string, string>
}

export type Kafka = {
  /** `host:port,…` of the plain listeners. */
  bootstrap: string
  brokers: string[]
  proxies: TcpProxy[]
  proxiedBrokers: string[]
  secureBrokers: string[]
  folder: string
  /** SIGKILL waits until the process is gone. Brokers are numbered from 0. */
  kill(broker: number, signal: 'SIGKILL' | 'SIGSTOP' | 'SIGCONT' | 'SIGTERM'): Promise<void>
  /** Starts a killed broker on its ports and data. Resolves when it answers, or at once with `wait: false`. */
  start(broker: number, options?: { wait: boolean }): Promise<void>
  running(broker: number): boolean
  stop(): Promise<void>
}

/** One line that says what is missing to run Kafka here, or undefined. */
export function kafkaMissing(): string | undefined {
  const missing = ['java', ...(existsSync(join(CACHE, 'libs')) ? [] : ['mvn'])].filter(
    (tool) => !Bun.which(tool),
  )
  if (missing.length === 0) return undefined
  return `Kafka tests need ${missing.join(' and ')}: install Java 17 and Maven (Debian: apt-get install openjdk-17-jre-headless maven)`
}

/**
 * For `describe.skipIf(skipKafka())`: true where Kafka cannot run, after one line that says why. In CI the tests are
 * not skipped and fail instead, because a suite that silently shrinks proves nothing.
 */
export function skipKafka(): boolean {
  const missing = kafkaMissing()
  if (missing === undefined || process.env.CI === 'true') return false
  console.warn(`skipped: ${missing}`)
  return true
}

/** Ports below the ephemeral range: a client that redials a dead broker must not be given its port as a source port. */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < 200; tries++) {
    const port = 20_000 + Math.floor(Math.random() * 12_000)
    if (handedOut.has(port)) continue
    const free = await new Promise<boolean>((done) => {
      const server = createServer()
      server.once('error', () => done(false))
      server.listen(port, '127.0.0.1', () => server.close(() => done(true)))
    })
    if (free) {
      handedOut.add(port)
      return port
    }
  }
  throw new Error('no free port between 20000 and 32000')
}
const handedOut = new Set<number>()

/**
 * Stands by until we are gone, however we go (test runners fire no exit event, SIGKILL fires nothing): the end of its
 * input is the sign. Then it kills the brokers that still run and removes the folder.
 */
function guard(folder: string): ChildProcess {
  const script = `read _; for f in ${folder}/*/pid; do [ -f "$f" ] && kill -9 "$(cat "$f")"; done; rm -rf ${folder}`
  const child = spawn('sh', ['-c', script], { stdio: ['pipe', 'ignore', 'ignore'], detached: true })
  child.unref()
  return child
}

export async function startKafka(options: KafkaOptions): Promise<Kafka> {
  const missing = kafkaMissing()
  if (missing) throw new Error(missing)
  const libs = fetchJars()
  const folder = await mkdtemp(join(tmpdir(), 'headrace-kafka-'))
  const watcher = guard(folder)
  const clusterId = randomBytes(16).toString('base64url')
  const nodes: Node[] = []
  for (let index = 0; index < options.brokers; index++) {
    nodes.push({
      index,
      plain: await freePort(),
      controller: await freePort(),
      proxied: options.proxied ? await freePort() : undefined,
      secure: options.secure ? await freePort() : undefined,
      folder: join(folder, `broker-${index}`),
      child: undefined,
    })
  }
  const proxies: TcpProxy[] = []
  for (const node of nodes)
    if (node.proxied) proxies.push(await startTcpProxy({ target: { host: '127.0.0.1', port: node.proxied } }))
  const advertised = (node: Node) => proxies[node.index]?.port

  for (const node of nodes) {
    mkdirSync(node.folder, { recursive: true })
    writeFileSync(
      join(node.folder, 'server.properties'),
      serverProperties(node, nodes, options, advertised(node)),
    )
  }

  const address = (port: number) => `127.0.0.1:${port}`
  const kafka: Kafka = {
    bootstrap: nodes.map((node) => address(node.plain)).join(','),
    brokers: nodes.map((node) => address(node.plain)),
    proxies,
    proxiedBrokers: proxies.map((proxy) => address(proxy.port)),
    secureBrokers: nodes.flatMap((node) => (node.secure ? [address(node.secure)] : [])),
    folder,
    running: (broker) => nodes[broker]!.child !== undefined,
    async kill(broker, signal) {
      const child = nodes[broker]!.child
      if (!child) return
      child.kill(signal)
      if (signal === 'SIGKILL' || signal === 'SIGTERM') await gone(child)
    },
    async start(broker, { wait } = { wait: true }) {
      const node = nodes[broker]!
      if (!node.child) launch(node, libs)
      if (wait) await answering(node)
    },
    async stop() {
      for (const node of nodes) {
        if (!node.child) continue
        node.child.kill('SIGKILL')
        await gone(node.child)
      }
      for (const proxy of proxies) await proxy.close()
      rmSync(folder, { recursive: true, force: true })
      watcher.stdin?.end()
    },
  }
  try {
    await Promise.all(nodes.map((node) => format(node, libs, clusterId)))
    await warmUp(nodes[0]!, libs)
    for (const node of nodes) launch(node, libs)
    for (const node of nodes) await answering(node)
  } catch (error) {
    await kafka.stop()
    throw error
  }
  return kafka
}

/**
 * For tests that kill brokers: the death of one is noticed after a second, by the others and, when it comes back, by
 * itself (a broker is not let in again while its former life still counts). Too nervous for a machine under load by a
 * whole deployment: brokers that only stutter are taken for dead.
 */
export const QUICK_TO_NOTICE: Readonly<Record<string, string>> = {
  'broker.session.timeout.ms': '1000',
  'broker.heartbeat.interval.ms': '200',
  'controller.quorum.fetch.timeout.ms': '1000',
  'controller.quorum.election.timeout.ms': '500',
  'controller.quorum.election.backoff.max.ms': '300',
}

let shared: Promise<Kafka> | undefined

/**
 * One broker for all test files of this process, with a proxied listener; the guard ends it after us. Who kills it
 * starts it again; tests that change settings start their own.
 */
export function sharedKafka(): Promise<Kafka> {
  shared ??= startKafka({ brokers: 1, proxied: true, settings: QUICK_TO_NOTICE })
  return shared
}

type Node = {
  index: number
  plain: number
  controller: number
  proxied: number | undefined
  secure: number | undefined
  folder: string
  child: ChildProcess | undefined
}

function serverProperties(
  node: Node,
  nodes: Node[],
  options: KafkaOptions,
  advertisedPort: number | undefined,
): string {
  const replicas = String(nodes.length)
  const listeners = [`PLAINTEXT://127.0.0.1:${node.plain}`]
  const advertised = [...listeners]
  const protocols = ['PLAINTEXT:PLAINTEXT', 'CONTROLLER:PLAINTEXT']
  if (node.proxied) {
    listeners.push(`PROXIED://127.0.0.1:${node.proxied}`)
    advertised.push(`PROXIED://127.0.0.1:${advertisedPort}`)
    protocols.push('PROXIED:PLAINTEXT')
  }
  if (node.secure) {
    listeners.push(`SECURE://127.0.0.1:${node.secure}`)
    advertised.push(`SECURE://127.0.0.1:${node.secure}`)
    protocols.push('SECURE:SASL_SSL')
  }
  listeners.push(`CONTROLLER://127.0.0.1:${node.controller}`)
  const settings: Record<string, string> = {
    'process.roles': 'broker,controller',
    'node.id': String(node.index + 1),
    'controller.quorum.voters': nodes.map((n) => `${n.index + 1}@127.0.0.1:${n.controller}`).join(','),
    'controller.listener.names': 'CONTROLLER',
    listeners: listeners.join(','),
    'advertised.listeners': advertised.join(','),
    'listener.security.protocol.map': protocols.join(','),
    'inter.broker.listener.name': 'PLAINTEXT',
    'log.dirs': join(node.folder, 'data'),
    'auto.create.topics.enable': 'false',
    'unclean.leader.election.enable': 'false',
    'min.insync.replicas': nodes.length === 3 ? '2' : '1',
    'offsets.topic.num.partitions': '4',
    'offsets.topic.replication.factor': replicas,
    'transaction.state.log.num.partitions': '1',
    'transaction.state.log.replication.factor': replicas,
    'share.coordinator.state.topic.num.partitions': '1',
    'share.coordinator.state.topic.replication.factor': replicas,
    // A dead broker is noticed after 3 s, not 9.
    'broker.session.timeout.ms': '3000',
    'broker.heartbeat.interval.ms': '500',
    'group.initial.rebalance.delay.ms': '0',
    'group.min.session.timeout.ms': '1000',
    'num.network.threads': '2',
    'num.io.threads': '4',
    'log.cleaner.enable': 'false',
    // Retention is looked at often, so that tests can watch it remove records.
    'log.retention.check.interval.ms': '1000',
    'log.initial.task.delay.ms': '1000',
    ...secureSettings(options),
    ...options.settings,
  }
  return `${Object.entries(settings)
    .map(([name, value]) => `${name}=${value}`)
    .join('\n')}\n`
}

function secureSettings(options: KafkaOptions): Record<string, string> {
  if (!options.secure) return {}
  const { certificate, key, username, password } = options.secure
  const oneLine = (pem: string) => pem.trim().replaceAll('\n', '\\n')
  return {
    'listener.name.secure.sasl.enabled.mechanisms': 'PLAIN',
    'listener.name.secure.plain.sasl.jaas.config': `org.apache.kafka.common.security.plain.PlainLoginModule required user_${username}="${password}";`,
    'listener.name.secure.ssl.keystore.type': 'PEM',
    'listener.name.secure.ssl.keystore.certificate.chain': oneLine(certificate),
    'listener.name.secure.ssl.keystore.key': oneLine(key),
  }
}

/** Fetches Kafka's jars once; several processes may come here at the same time, the first to finish wins. */
function fetchJars(): string {
  const libs = join(CACHE, 'libs')
  if (existsSync(libs)) return libs
  console.warn(`fetching Kafka ${KAFKA_VERSION} once (43 MB)`)
  mkdirSync(CACHE, { recursive: true })
  const pom = join(CACHE, `pom-${process.pid}.xml`)
  const incoming = join(CACHE, `incoming-${process.pid}`)
  const dependency = (group: string, artifact: string, version: string) =>
    `<dependency><groupId>${group}</groupId><artifactId>${artifact}</artifactId><version>${version}</version></dependency>`
  writeFileSync(
    pom,
    `<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>headrace</groupId><artifactId>kafka-for-tests</artifactId><version>1</version><packaging>pom</packaging>
<dependencies>${dependency('org.apache.kafka', 'kafka_2.13', KAFKA_VERSION)}${dependency('org.slf4j', 'slf4j-simple', SLF4J_VERSION)}</dependencies>
</project>\n`,
  )
  const fetched = spawnSync(
    'mvn',
    ['-q', '-B', '-f', pom, 'dependency:copy-dependencies', `-DoutputDirectory=${incoming}`],
    { encoding: 'utf8' },
  )
  rmSync(pom, { force: true })
  if (fetched.status !== 0) throw new Error(`Maven could not fetch Kafka: ${fetched.stdout}${fetched.stderr}`)
  try {
    renameSync(incoming, libs)
  } catch (error) {
    rmSync(incoming, { recursive: true, force: true })
    if (!existsSync(libs)) throw error
  }
  return libs
}

/** Kafka's classes, parsed once and mapped from then on: a broker starts in half the time, which fault tests do often. */
const CLASS_ARCHIVE = join(CACHE, 'classes.jsa')

/** Once per clone: a broker started and stopped cleanly, since Java writes the archive only then. */
async function warmUp(node: Node, libs: string): Promise<void> {
  if (existsSync(CLASS_ARCHIVE)) return
  const incoming = `${CLASS_ARCHIVE}.${process.pid}`
  // A single node of a group of three takes no requests; its start alone loads most classes.
  launch(node, libs, [`-XX:ArchiveClassesAtExit=${incoming}`])
  const child = node.child!
  await Promise.race([answering(node), Bun.sleep(WARM_UP_MS)])
  child.kill('SIGTERM')
  const killer = setTimeout(() => child.kill('SIGKILL'), WARM_UP_MS)
  await gone(child)
  clearTimeout(killer)
  if (existsSync(incoming)) renameSync(incoming, CLASS_ARCHIVE)
}

/** Makes the broker's data folder. Rejects with what the tool printed. */
async function format(node: Node, libs: string, clusterId: string): Promise<void> {
  const settings = join(node.folder, 'server.properties')
  // With `=`, since an id may begin with a hyphen.
  const words = ['kafka.tools.StorageTool', 'format', `--cluster-id=${clusterId}`, '-c', settings]
  await promisify(execFile)('java', [...javaOptions(libs), ...words])
}

function launch(node: Node, libs: string, extra: string[] = []): void {
  const log = openSync(join(node.folder, 'broker.log'), 'a')
  const words = ['kafka.Kafka', join(node.folder, 'server.properties')]
  // Codecs unpack libraries into the temporary folder and, when killed, leave them there.
  const ownTemp = `-Djava.io.tmpdir=${node.folder}`
  const child = spawn('java', [ownTemp, ...extra, ...javaOptions(libs), ...words], {
    stdio: ['ignore', log, log],
    cwd: node.folder,
  })
  closeSync(log)
  node.child = child
  const pidFile = join(node.folder, 'pid')
  writeFileSync(pidFile, String(child.pid))
  child.once('exit', () => {
    rmSync(pidFile, { force: true })
    if (node.child === child) node.child = undefined
  })
}

function javaOptions(libs: string): string[] {
  return [
    '-Xmx512m',
    '-Xms128m',
    '-XX:+UseSerialGC',
    '-XX:TieredStopAtLevel=1',
    ...(existsSync(CLASS_ARCHIVE) ? [`-XX:SharedArchiveFile=${CLASS_ARCHIVE}`] : []),
    '-Dorg.slf4j.simpleLogger.defaultLogLevel=warn',
    '-Dorg.slf4j.simpleLogger.showDateTime=true',
    '-cp',
    `${libs}/*`,
  ]
}

function gone(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve()
  return new Promise((done) => child.once('exit', () => done()))
}

/** Takes connections = the broker has registered and caught up (Kafka opens its doors last). */
async function answering(node: Node): Promise<void> {
  const deadline = Date.now() + START_MS_MAX
  while (Date.now() < deadline) {
    if (!node.child) break
    const open = await new Promise<boolean>((done) => {
      const socket = connect(node.plain, '127.0.0.1')
      socket.once('connect', () => done(true))
      socket.once('error', () => done(false))
      socket.once('close', () => socket.removeAllListeners())
    }).catch(() => false)
    if (open) return
    await Bun.sleep(50)
  }
  const log = readFileSync(join(node.folder, 'broker.log'), 'utf8').slice(-4000)
  throw new Error(`broker ${node.index} did not start within ${START_MS_MAX} ms:\n${log}`)
}
