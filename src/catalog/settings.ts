/**
 * Every setting that a process reads at its start: one typed table, which makes the parser, the boot check and the
 * reference page. What users change at run time (projects, destinations, …) is not here.
 */
import { isIP } from 'node:net'
import { errorTable } from '../event/index.ts'

export const SETTINGS_ERRORS = {
  HR_SETTING_INVALID: {
    class: 'fatal',
    meaning: 'A setting has a value that is not allowed; the sentence names it and what is.',
  },
} as const
const settingError = errorTable(SETTINGS_ERRORS)

type Spec<T> = {
  /** Environment variable. */
  env: string
  default: T
  unit: string
  meaning: string
  /** What is allowed, in words: used in the error and in the reference. */
  allowed: string
  parse: (text: string) => T | undefined
}

function integer(
  env: string,
  value: number,
  min: number,
  max: number,
  unit: string,
  meaning: string,
): Spec<number> {
  const parse = (text: string) => {
    const number = Number(text)
    return /^-?\d+$/.test(text) && number >= min && number <= max ? number : undefined
  }
  return { env, default: value, unit, meaning, allowed: `a whole number from ${min} to ${max}`, parse }
}

function text(
  env: string,
  value: string,
  meaning: string,
  allowed = 'any text',
  pattern?: RegExp,
): Spec<string> {
  return {
    env,
    default: value,
    unit: '',
    meaning,
    allowed,
    parse: (t) => (!pattern || pattern.test(t) ? t : undefined),
  }
}

function choice<const C extends readonly string[]>(
  env: string,
  value: C[number],
  choices: C,
  meaning: string,
): Spec<C[number]> {
  return {
    env,
    default: value,
    unit: '',
    meaning,
    allowed: `one of ${choices.join(', ')}`,
    parse: (t) => choices.find((c) => c === t),
  }
}

const PORT = '(\\d{1,4}|[1-5]\\d{4}|6[0-4]\\d{3}|65[0-4]\\d\\d|655[0-2]\\d|6553[0-5])'
const ADDRESS = `(\\[[0-9a-fA-F:]+\\]|[^\\s:]+):${PORT}`

function address(env: string, value: string, meaning: string): Spec<string> {
  return text(
    env,
    value,
    meaning,
    'host:port, such as 127.0.0.1:8010 or [::1]:8010',
    new RegExp(`^${ADDRESS}$`),
  )
}

const PROXY_WORD = /^(|loopback|private)$/i

/** Whether it is a word, an address or a network; an empty part is nobody. */
function isProxy(part: string): boolean {
  const text = part.trim()
  const [address, bits] = text.split('/') as [string, string?]
  const version = isIP(address)
  if (version === 0) return PROXY_WORD.test(text)
  return text === address || (/^\d{1,3}$/.test(bits ?? '') && Number(bits) <= (version === 4 ? 32 : 128))
}

export const SETTINGS = {
  dataDir: text(
    'HEADRACE_DATA_DIR',
    './data',
    'Folder of everything that the embedded parts keep.',
    'a path',
    /./,
  ),
  logLevel: choice(
    'HEADRACE_LOG_LEVEL',
    'info',
    ['trace', 'debug', 'info', 'warn', 'error'] as const,
    'Least severe message that is printed.',
  ),
  projectToken: text(
    'HEADRACE_PROJECT_TOKEN',
    '',
    'Token of project `default`, used when it is created; empty = a random one.',
    '1 to 64 of A-Z a-z 0-9 _ -, or empty',
    /^[A-Za-z0-9_-]{0,64}$/,
  ),
  captureAddress: address('HEADRACE_CAPTURE_ADDRESS', '127.0.0.1:8010', 'Where SDKs send events.'),
  apiAddress: address(
    'HEADRACE_API_ADDRESS',
    '127.0.0.1:8011',
    'Health and metrics of all roles of `headrace up`; later the admin API.',
  ),
  warehouseAddress: address(
    'HEADRACE_WAREHOUSE_ADDRESS',
    '127.0.0.1:8012',
    'HTTP interface of the embedded ClickHouse engine.',
  ),
  healthAddress: text(
    'HEADRACE_HEALTH_ADDRESS',
    '',
    'Where a role without an HTTP door of its own answers health and metrics; empty = a Unix socket in the data folder.',
    'host:port, or empty',
    new RegExp(`^$|^${ADDRESS}$`),
  ),
  log: text(
    'HEADRACE_LOG',
    'embedded',
    'The log: `embedded`, or `kafka://host:port,host:port`.',
    '`embedded` or kafka://host:port[,host:port…]',
    /^embedded$|^kafka:\/\/[^\s,]+(,[^\s,]+)*$/,
  ),
  postgres: text(
    'HEADRACE_POSTGRES',
    'embedded',
    'The state: `embedded`, or a Postgres URL.',
    '`embedded` or postgres://…',
    /^embedded$|^postgres(ql)?:\/\/\S+$/,
  ),
  postgresBuffersMb: integer(
    'HEADRACE_POSTGRES_BUFFERS_MB',
    0,
    0,
    1_048_576,
    'MB',
    'Memory that the embedded Postgres may fill with pages of its tables (its `shared_buffers`); about 1.5 MB per thousand persons keeps ingest fast. 0 = an eighth of the memory of the machine or container, from 64 to 2,048.',
  ),
  clickhouse: text(
    'HEADRACE_CLICKHOUSE',
    'embedded',
    'The warehouse: `embedded`, or the HTTP URL of a ClickHouse.',
    '`embedded` or http(s)://…',
    /^embedded$|^https?:\/\/\S+$/,
  ),
  clickhouseCluster: text(
    'HEADRACE_CLICKHOUSE_CLUSTER',
    '',
    'Name of the ClickHouse cluster: the tables are then replicated and sharded; empty = a single node.',
    'a cluster name, or empty',
    /^[\w.-]*$/,
  ),
  partitions: integer(
    'HEADRACE_PARTITIONS',
    0,
    0,
    4096,
    'partitions',
    'Partitions of a new deployment, fixed for ever; 0 = 8 with the embedded log, 64 with Kafka.',
  ),
  kafkaReplication: integer('HEADRACE_KAFKA_REPLICATION', 3, 1, 15, 'replicas', 'Replication of the topics.'),
  kafkaMinInsyncReplicas: integer(
    'HEADRACE_KAFKA_MIN_INSYNC_REPLICAS',
    2,
    1,
    15,
    'replicas',
    '`min.insync.replicas` of the topics.',
  ),
  kafkaCompression: choice(
    'HEADRACE_KAFKA_COMPRESSION',
    'lz4',
    ['none', 'gzip', 'snappy', 'lz4', 'zstd'] as const,
    'Compression of produced batches.',
  ),
  kafkaTls: choice(
    'HEADRACE_KAFKA_TLS',
    'off',
    ['off', 'on'] as const,
    'TLS to the brokers; certificates are always checked.',
  ),
  kafkaTlsCa: text(
    'HEADRACE_KAFKA_TLS_CA',
    '',
    "File with the certificate authority, PEM; empty = the system's.",
    'a path, or empty',
  ),
  kafkaTlsCert: text(
    'HEADRACE_KAFKA_TLS_CERT',
    '',
    'File with our client certificate, PEM.',
    'a path, or empty',
  ),
  kafkaTlsKey: text(
    'HEADRACE_KAFKA_TLS_KEY',
    '',
    'File with the key of our client certificate, PEM.',
    'a path, or empty',
  ),
  kafkaSaslMechanism: choice(
    'HEADRACE_KAFKA_SASL_MECHANISM',
    'none',
    ['none', 'PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512'] as const,
    'How we sign in at the brokers.',
  ),
  kafkaSaslUsername: text('HEADRACE_KAFKA_SASL_USERNAME', '', 'User name at the brokers.'),
  kafkaSaslPassword: text('HEADRACE_KAFKA_SASL_PASSWORD', '', 'Password at the brokers.'),
  logRetentionHours: integer(
    'HEADRACE_LOG_RETENTION_HOURS',
    168,
    1,
    87_600,
    'h',
    'How long the log keeps records; the embedded log also keeps what a reader has not read.',
  ),
  logDiskFullPercent: integer(
    'HEADRACE_LOG_DISK_FULL_PERCENT',
    90,
    10,
    99,
    '%',
    'Disk usage above which the embedded log refuses new events.',
  ),
  captureBodyBytesMax: integer(
    'HEADRACE_CAPTURE_BODY_BYTES_MAX',
    8_388_608,
    1024,
    268_435_456,
    'bytes',
    'Largest body on the wire.',
  ),
  captureInflatedBytesMax: integer(
    'HEADRACE_CAPTURE_INFLATED_BYTES_MAX',
    5_767_168,
    1024,
    1_073_741_824,
    'bytes',
    'Largest body after decompression.',
  ),
  captureRatioMax: integer(
    'HEADRACE_CAPTURE_RATIO_MAX',
    1_100,
    1,
    1_000_000,
    'to one',
    'Most bytes that a body of over 1 MiB may decompress to per byte on the wire.',
  ),
  captureLz64BytesMax: integer(
    'HEADRACE_CAPTURE_LZ64_BYTES_MAX',
    524_288,
    1024,
    16_777_216,
    'bytes',
    'Largest body after lz64, which old browser SDKs send and which nothing decodes fast.',
  ),
  captureEventBytesMax: integer(
    'HEADRACE_CAPTURE_EVENT_BYTES_MAX',
    1_000_000,
    1024,
    1_040_000,
    'bytes',
    'Largest single event.',
  ),
  captureEventDepthMax: integer(
    'HEADRACE_CAPTURE_EVENT_DEPTH_MAX',
    128,
    8,
    490,
    'levels',
    'Deepest nesting of objects and arrays in one event; ingest takes 500, and what is made of a message of Segment nests deeper than it.',
  ),
  captureEventKeysMax: integer(
    'HEADRACE_CAPTURE_EVENT_KEYS_MAX',
    10_000,
    16,
    1_000_000,
    'keys',
    'Most keys in one event, those of all objects inside it together.',
  ),
  captureBatchValuesMax: integer(
    'HEADRACE_CAPTURE_BATCH_VALUES_MAX',
    1_200_000,
    1_000,
    100_000_000,
    'values',
    'Most JSON values in one request; what capture reads counts more than once, see docs/guides/capture-limits.md.',
  ),
  captureBatchEventsMax: integer(
    'HEADRACE_CAPTURE_BATCH_EVENTS_MAX',
    7_000,
    1,
    1_000_000,
    'events',
    'Most events in one request.',
  ),
  captureAnswerMs: integer(
    'HEADRACE_CAPTURE_ANSWER_MS',
    7_000,
    100,
    9_000,
    'ms',
    'Time within which the log must have taken a request; SDKs give up at 10 s.',
  ),
  captureLogMs: integer(
    'HEADRACE_CAPTURE_LOG_MS',
    3_000,
    10,
    4_500,
    'ms',
    'Time that Kafka has for taking events before they go to the spool; at most half of `HEADRACE_CAPTURE_ANSWER_MS`.',
  ),
  spoolDir: text(
    'HEADRACE_SPOOL_DIR',
    '',
    'Folder, on a local disk that stays, where capture keeps events while Kafka is out of reach; empty = `spool` in the data folder.',
    'a path, or empty',
  ),
  spoolBytesMax: integer(
    'HEADRACE_SPOOL_BYTES_MAX',
    10_737_418_240,
    1_048_576,
    1_125_899_906_842_624,
    'bytes',
    'Most that the spool of one capture process may take on its disk; beyond, requests are answered with 503.',
  ),
  captureInFlightBytesMax: integer(
    'HEADRACE_CAPTURE_IN_FLIGHT_BYTES_MAX',
    268_435_456,
    1_048_576,
    17_179_869_184,
    'bytes',
    'Bodies being read, decompressed or stored at the same time; beyond, requests are answered with 503.',
  ),
  captureBodyMs: integer(
    'HEADRACE_CAPTURE_BODY_MS',
    60_000,
    100,
    200_000,
    'ms',
    'Time in which the body of a request must have come, from the end of its headers.',
  ),
  captureBodyStallMs: integer(
    'HEADRACE_CAPTURE_BODY_STALL_MS',
    10_000,
    100,
    60_000,
    'ms',
    'Time in which 16 KiB of a body, or its end, must have come.',
  ),
  captureIdleSeconds: integer(
    'HEADRACE_CAPTURE_IDLE_SECONDS',
    120,
    4,
    240,
    's',
    'Time that a connection is kept between two requests, in steps of 4 s; never less than a body and the log may take.',
  ),
  captureConnectionsMax: integer(
    'HEADRACE_CAPTURE_CONNECTIONS_MAX',
    20_000,
    10,
    1_000_000,
    'connections',
    'Connections of one capture process; beyond, idle ones are closed and new ones refused. Also bounded by four fifths of the open files that the system allows.',
  ),
  captureStopGraceMs: integer(
    'HEADRACE_CAPTURE_STOP_GRACE_MS',
    0,
    0,
    12_000,
    'ms',
    'Time between SIGTERM, when readiness fails, and the end of new connections: the interval of the load balancer’s checks. Only when capture runs as a process of its own.',
  ),
  trustedProxies: {
    env: 'HEADRACE_TRUSTED_PROXIES',
    default: '',
    unit: '',
    meaning:
      'Proxies that are believed on the client’s address: their X-Forwarded-For, else Forwarded, else X-Real-IP. Each must write X-Forwarded-For or remove it, else clients choose their address. Empty = nobody.',
    allowed: 'IP addresses and networks such as 10.0.0.0/8, and the words loopback and private, with commas',
    parse: (list: string) => (list.split(',').every(isProxy) ? list : undefined),
  },
  captureClockTrustMs: integer(
    'HEADRACE_CAPTURE_CLOCK_TRUST_MS',
    30_000,
    0,
    3_600_000,
    'ms',
    "A client's clock that is off by at most this is believed; beyond, its events are moved by the difference.",
  ),
  ingestBatchEventsMax: integer(
    'HEADRACE_INGEST_BATCH_EVENTS_MAX',
    5_000,
    1,
    20_000,
    'events',
    'Most events of one partition in one transaction.',
  ),
  ingestBatchBytesMax: integer(
    'HEADRACE_INGEST_BATCH_BYTES_MAX',
    16_777_216,
    65_536,
    134_217_728,
    'bytes',
    'Most raw bytes of one partition in one transaction.',
  ),
  ingestLingerMs: integer(
    'HEADRACE_INGEST_LINGER_MS',
    100,
    0,
    5_000,
    'ms',
    'Least time between two batches of a partition while it is not behind.',
  ),
  ingestCookieless: choice(
    'HEADRACE_INGEST_COOKIELESS',
    'on',
    ['on', 'off'] as const,
    'Whether projects can take cookieless events; `off` drops them in all projects.',
  ),
  canary: text(
    'HEADRACE_CANARY',
    'off',
    "A probe event per minute, in a hidden project of its own, that measures how fresh ClickHouse is: `on` sends it to this deployment's HEADRACE_CAPTURE_ADDRESS, a URL to the capture that it names.",
    '`off`, `on`, or http(s)://…',
    /^(off|on|https?:\/\/\S+)$/,
  ),
  receiptDetailHours: integer(
    'HEADRACE_RECEIPT_DETAIL_HOURS',
    720,
    24,
    876_000,
    'h',
    'How long Postgres keeps a receipt for each batch, and counts for each hour; older ones are merged by day. At least as long as the log keeps records.',
  ),
  dedupWindowHours: integer(
    'HEADRACE_DEDUP_WINDOW_HOURS',
    168,
    1,
    8_760,
    'h',
    'Two sends of the same event within this time are stored once.',
  ),
  dedupMemoryMb: integer(
    'HEADRACE_DEDUP_MEMORY_MB',
    512,
    64,
    65_536,
    'MB',
    'Memory for the newest claims and the filters of all dedup indexes of an ingest process; what finds no room is read from disk.',
  ),
  loadFlushMs: integer(
    'HEADRACE_LOAD_FLUSH_MS',
    1_000,
    10,
    60_000,
    'ms',
    'Time between two inserts of a load process into a table, and the longest that a row waits for one at low load.',
  ),
  loadBusyPercent: integer(
    'HEADRACE_LOAD_BUSY_PERCENT',
    100,
    1,
    100,
    '%',
    'Share of the time that the inserts of a load process into a table may take: below 100 it rests after each one in proportion to how long that took, so that catching up leaves ClickHouse time for queries and merges.',
  ),
  loadMemoryMb: integer(
    'HEADRACE_LOAD_MEMORY_MB',
    192,
    32,
    1_024,
    'MB',
    'Memory for the rows that a load process holds, over all tables: half of it for those of an insert that is on its way, half for those that wait for the next one. The process takes up to 300 MB besides.',
  ),
  definitionEventsMax: integer(
    'HEADRACE_DEFINITION_EVENTS_MAX',
    10_000,
    1,
    1_000_000,
    'names',
    'Event names of a project that `headrace schema` keeps; how often there were others is counted.',
  ),
  definitionPropertiesMax: integer(
    'HEADRACE_DEFINITION_PROPERTIES_MAX',
    100_000,
    1,
    10_000_000,
    'names',
    'Properties of a project, of each event apart, that `headrace schema` keeps; how often there were others is counted.',
  ),
  geoipDatabase: text(
    'HEADRACE_GEOIP_DATABASE',
    '',
    'File in the MaxMind format (City or Country) for the transformation `geoip`. Read when a process starts; without one no address is found.',
  ),
} as const satisfies Record<string, Spec<never> | Spec<number> | Spec<string>>

export type Settings = {
  -readonly [K in keyof typeof SETTINGS]: (typeof SETTINGS)[K] extends Spec<infer T> ? T : never
}

/**
 * Reads every setting from `env`; `overrides` (from the command line) win. Throws HR_SETTING_INVALID with one
 * sentence that names the setting, the value and what is allowed, also for a HEADRACE_* variable that nobody knows.
 */
export function readSettings(
  env: Record<string, string | undefined>,
  overrides: Partial<Settings> = {},
): Settings {
  const known = new Set<string>(Object.values(SETTINGS).map((spec) => spec.env))
  for (const name of Object.keys(env)) {
    if (name.startsWith('HEADRACE_') && !known.has(name) && !name.startsWith('HEADRACE_TEST_')) {
      throw settingError(
        'HR_SETTING_INVALID',
        `${name} is not a setting; docs/reference/settings.md lists them`,
      )
    }
  }
  const settings: Record<string, unknown> = {}
  for (const [key, spec] of Object.entries(SETTINGS) as [string, Spec<unknown>][]) {
    const given = env[spec.env]
    const override = (overrides as Record<string, unknown>)[key]
    const written = override === undefined ? given : String(override)
    if (written === undefined) {
      settings[key] = spec.default
      continue
    }
    const value = spec.parse(written)
    if (value === undefined) {
      throw settingError('HR_SETTING_INVALID', `${spec.env} is "${written}"; allowed is ${spec.allowed}`)
    }
    settings[key] = value
  }
  return settings as Settings
}

/** The reference page of all settings. */
export function settingsReference(): string {
  const rows = Object.values(SETTINGS).map((spec: Spec<unknown>) => {
    const shown = spec.default === '' ? '(empty)' : `\`${spec.default}\``
    return `| \`${spec.env}\` | ${shown}${spec.unit ? ` ${spec.unit}` : ''} | ${spec.meaning} | ${spec.allowed} |`
  })
  return [
    '# Settings',
    '',
    'Environment variables, read at the start of every process.',
    '',
    '| Variable | Default | Meaning | Allowed |',
    '| --- | --- | --- | --- |',
    ...rows,
    '',
  ].join('\n')
}

/** Splits `host:port`, which the table has checked. */
export function parseAddress(address: string): { hostname: string; port: number } {
  const colon = address.lastIndexOf(':')
  return { hostname: address.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(address.slice(colon + 1)) }
}
