import { describe, expect, test } from 'bun:test'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseAddress, readSettings, SETTINGS, type Settings, settingsReference } from './settings.ts'

/** Variable, value, and the end of the sentence. */
const REFUSED: [string, string, string][] = [
  ['HEADRACE_DATA_DIR', '', 'a path'],
  ['HEADRACE_LOG_LEVEL', 'loud', 'one of trace, debug, info, warn, error'],
  ['HEADRACE_PROJECT_TOKEN', 'with space', '1 to 64 of A-Z a-z 0-9 _ -, or empty'],
  ['HEADRACE_PROJECT_TOKEN', 'x'.repeat(65), '1 to 64 of A-Z a-z 0-9 _ -, or empty'],
  ['HEADRACE_CAPTURE_ADDRESS', '8010', 'host:port, such as 127.0.0.1:8010 or [::1]:8010'],
  ['HEADRACE_CAPTURE_ADDRESS', '127.0.0.1:65536', 'host:port, such as 127.0.0.1:8010 or [::1]:8010'],
  ['HEADRACE_API_ADDRESS', '::1:8011', 'host:port, such as 127.0.0.1:8010 or [::1]:8010'],
  ['HEADRACE_WAREHOUSE_ADDRESS', 'localhost:', 'host:port, such as 127.0.0.1:8010 or [::1]:8010'],
  ['HEADRACE_HEALTH_ADDRESS', 'localhost', 'host:port, or empty'],
  ['HEADRACE_LOG', 'kafka', '`embedded` or kafka://host:port[,host:port…]'],
  ['HEADRACE_LOG', 'kafka://a:1,', '`embedded` or kafka://host:port[,host:port…]'],
  ['HEADRACE_POSTGRES', 'mysql://x', '`embedded` or postgres://…'],
  ['HEADRACE_CLICKHOUSE', 'tcp://x:9000', '`embedded` or http(s)://…'],
  ['HEADRACE_CLICKHOUSE_CLUSTER', "a'b", 'a cluster name, or empty'],
  ['HEADRACE_PARTITIONS', '-1', 'a whole number from 0 to 4096'],
  ['HEADRACE_PARTITIONS', '4097', 'a whole number from 0 to 4096'],
  ['HEADRACE_PARTITIONS', '8.0', 'a whole number from 0 to 4096'],
  ['HEADRACE_PARTITIONS', '', 'a whole number from 0 to 4096'],
  ['HEADRACE_PARTITIONS', '0x8', 'a whole number from 0 to 4096'],
  ['HEADRACE_KAFKA_REPLICATION', '0', 'a whole number from 1 to 15'],
  ['HEADRACE_KAFKA_MIN_INSYNC_REPLICAS', 'two', 'a whole number from 1 to 15'],
  ['HEADRACE_KAFKA_COMPRESSION', 'LZ4', 'one of none, gzip, snappy, lz4, zstd'],
  ['HEADRACE_KAFKA_TLS', 'true', 'one of off, on'],
  ['HEADRACE_KAFKA_SASL_MECHANISM', 'plain', 'one of none, PLAIN, SCRAM-SHA-256, SCRAM-SHA-512'],
  ['HEADRACE_INGEST_COOKIELESS', 'stateful', 'one of on, off'],
  ['HEADRACE_CANARY', 'yes', '`off`, `on`, or http(s)://…'],
  ['HEADRACE_TRUSTED_PROXIES', '10.0.0.0/33', 'IP addresses and networks such as 10.0.0.0/8'],
  ['HEADRACE_TRUSTED_PROXIES', 'private,proxy.example', 'IP addresses and networks such as 10.0.0.0/8'],
  ['HEADRACE_SECRET_KEY', 'secret', '32 bytes as base64, or empty'],
  ['HEADRACE_DELIVER_ALLOW', 'localhost', 'IP addresses and networks such as 10.0.0.0/8, or empty'],
  ['HEADRACE_LOAD_MEMORY_MB', ' 64', 'a whole number from 32 to 1024'],
  ['HEADRACE_LOAD_MEMORY_MB', '1e3', 'a whole number from 32 to 1024'],
]

describe('readSettings', () => {
  test.each(REFUSED)('refuses %s=%p and says what is allowed', (name, value, allowed) => {
    expect(() => readSettings({ [name]: value })).toThrow(`${name} is "${value}"; allowed is ${allowed}`)
  })

  test('every whole number has both limits, and its default is within them', () => {
    const numbers = Object.values(SETTINGS).filter((spec) => typeof spec.default === 'number')
    expect(numbers.length).toBeGreaterThan(10)
    for (const { env, allowed } of numbers) {
      const [min, max] = allowed.match(/\d+/g)!.map(Number) as [number, number]
      for (const fine of [min, max]) expect(() => readSettings({ [env]: String(fine) })).not.toThrow()
      for (const wrong of [min - 1, max + 1]) {
        expect(() => readSettings({ [env]: String(wrong) })).toThrow(
          `${env} is "${wrong}"; allowed is ${allowed}`,
        )
      }
    }
  })

  test('every other setting that can be wrong has a row above', () => {
    const free = new Set<string>()
    for (const { env, parse } of Object.values(SETTINGS)) {
      if (parse('') !== undefined && parse('a b:!') !== undefined) free.add(env)
    }
    const tested = new Set(REFUSED.map(([name]) => name))
    const rest = Object.values(SETTINGS).filter(
      (spec) => typeof spec.default !== 'number' && !free.has(spec.env),
    )
    expect(rest.map((spec) => spec.env).filter((env) => !tested.has(env))).toEqual([])
  })

  test('refuses a HEADRACE_ variable that is no setting, so that a typing error does not pass', () => {
    expect(() => readSettings({ HEADRACE_PARTITION: '8' })).toThrow('HEADRACE_PARTITION is not a setting')
  })

  test('leaves other variables and those of the tests alone', () => {
    expect(() => readSettings({ PATH: '/bin', HEADRACE_TEST_CHROMIUM: 'x' })).not.toThrow()
  })

  test('the defaults are allowed values', () => {
    const defaults = readSettings({})
    const written = Object.fromEntries(
      Object.entries(SETTINGS).map(([key, spec]) => [spec.env, String(defaults[key as keyof Settings])]),
    )
    expect(readSettings(written)).toEqual(defaults)
  })

  test('the command line wins over the environment, and is checked in the same way', () => {
    expect(readSettings({ HEADRACE_PARTITIONS: '4' }, { partitions: 16 }).partitions).toBe(16)
    expect(() => readSettings({}, { log: 'file' })).toThrow('HEADRACE_LOG is "file"')
  })
})

test.each([
  ['127.0.0.1:8010', '127.0.0.1', 8010],
  ['[::1]:8010', '::1', 8010],
  ['localhost:0', 'localhost', 0],
])('parseAddress(%p)', (address, hostname, port) => {
  expect(parseAddress(address)).toEqual({ hostname, port })
})

test('the reference names every setting with its default', () => {
  const page = settingsReference()
  for (const { env } of Object.values(SETTINGS)) expect(page).toContain(`| \`${env}\` |`)
  const written = readFileSync(join(import.meta.dirname, '../../docs/reference/settings.md'), 'utf8')
  expect(page).toBe(written)
})
