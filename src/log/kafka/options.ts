/**
 * What a Kafka log is opened with, its defaults, and its limits. Every queue and wait of this folder takes its bound
 * from here.
 */
import type { HeadraceError } from '../../event/index.ts'
import { logError } from '../errors.ts'

export const COMPRESSIONS = ['none', 'gzip', 'snappy', 'lz4', 'zstd'] as const
export type Compression = (typeof COMPRESSIONS)[number]

export const SASL_MECHANISMS = ['PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512'] as const

export type KafkaTls = {
  /** PEM of the authorities to trust instead of the system's. */
  ca?: string
  /** PEM of our certificate and key, where brokers ask for one. */
  cert?: string
  key?: string
  /** The name that brokers' certificates must carry, when it is not the name we dial. */
  serverName?: string
}

export type KafkaSasl = { mechanism: (typeof SASL_MECHANISMS)[number]; username: string; password: string }

export type KafkaLogOptions = {
  /** `host:port` of some brokers; the others are learned from them. */
  brokers: string[]
  /** Shown in the brokers' logs and metrics. */
  clientId: string
  /** Certificates are always checked; there is no switch to turn that off. */
  tls?: KafkaTls
  sasl?: KafkaSasl
  compression?: Compression
  /** How long one answer of a broker may take, and how long a reader waits for a lost broker before it says so. */
  requestTimeoutMs?: number
  connectTimeoutMs?: number
  /** Beyond this many bytes waiting in one producer, sends are refused. */
  queueBytesMax?: number
  /** A member that is silent for this long loses its partitions. */
  sessionTimeoutMs?: number
  /** How long a member may take over `revoked` before its partition is given away anyway. */
  revokeTimeoutMs?: number
  /** Replication of topics made without saying; undefined = the cluster's default. */
  replication?: number
}

export type KafkaSettings = Required<Omit<KafkaLogOptions, 'tls' | 'sasl' | 'replication'>> &
  Pick<KafkaLogOptions, 'tls' | 'sasl' | 'replication'> & { seeds: BrokerAddress[] }

export type BrokerAddress = { host: string; port: number }

/** All batches of one produce request together; the brokers' own bound (socket.request.max.bytes) is 100 MB. */
export const PRODUCE_REQUEST_BYTES_MAX = 8 << 20
/** One partition's batch in a request, unless a single record is larger: keeps a big backlog from blocking others. */
export const BATCH_BYTES_MAX = 1 << 20
export const BATCH_RECORDS_MAX = 10_000
/** What a broker may send per fetch, and per partition of it. One batch always fits, however large. */
export const FETCH_BYTES_MAX = 16 << 20
export const FETCH_PARTITION_BYTES_MAX = 1 << 20
/** How long a fetch waits at a broker for news. */
export const FETCH_WAIT_MS = 250
/** The same while some reader is full: it must not wait for quiet partitions once its owner made room. */
export const FETCH_WAIT_BUSY_MS = 20
export const READER_BUFFER_BYTES = 4 << 20
export const RECONNECT_MS_MIN = 50
export const RECONNECT_MS_MAX = 2_000

/** Fills in the defaults. Throws HR_LOG_SETTING: one sentence with setting, value and what is allowed. */
export function kafkaSettings(options: KafkaLogOptions): KafkaSettings {
  if (options.brokers.length === 0) throw wrongSetting('brokers', '', 'a list of host:port')
  const compression = options.compression ?? 'none'
  if (!COMPRESSIONS.includes(compression))
    throw wrongSetting('compression', compression, COMPRESSIONS.join(', '))
  if (options.sasl && !SASL_MECHANISMS.includes(options.sasl.mechanism))
    throw wrongSetting('sasl.mechanism', options.sasl.mechanism, SASL_MECHANISMS.join(', '))
  return {
    brokers: options.brokers,
    seeds: options.brokers.map(brokerAddress),
    clientId: options.clientId,
    compression,
    requestTimeoutMs: positive('requestTimeoutMs', options.requestTimeoutMs ?? 10_000),
    connectTimeoutMs: positive('connectTimeoutMs', options.connectTimeoutMs ?? 3_000),
    queueBytesMax: positive('queueBytesMax', options.queueBytesMax ?? 64 << 20),
    sessionTimeoutMs: positive('sessionTimeoutMs', options.sessionTimeoutMs ?? 10_000),
    revokeTimeoutMs: positive('revokeTimeoutMs', options.revokeTimeoutMs ?? 20_000),
    ...(options.tls ? { tls: options.tls } : {}),
    ...(options.sasl ? { sasl: options.sasl } : {}),
    ...(options.replication === undefined ? {} : { replication: options.replication }),
  }
}

/** `host:port`, `[::1]:port`; without a port Kafka's usual 9092. */
export function brokerAddress(text: string): BrokerAddress {
  const found = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]/\s]+))(?::(\d{1,5}))?$/.exec(text)
  const port = Number(found?.[3] ?? 9092)
  if (!found || port < 1 || port > 65_535) throw wrongSetting('brokers', text, 'host:port')
  return { host: (found[1] ?? found[2])!, port }
}

function positive(name: string, value: number): number {
  if (!Number.isFinite(value) || value <= 0) throw wrongSetting(name, String(value), 'a number above 0')
  return value
}

function wrongSetting(name: string, value: string, allowed: string): HeadraceError {
  return logError('HR_LOG_SETTING', `the Kafka setting ${name} is "${value}"; allowed: ${allowed}`)
}
