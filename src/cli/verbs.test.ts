/** What the verbs decide without any server: exit codes, words, tables, arrays. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test'
import { join } from 'node:path'
import { errorTable } from '../event/index.ts'
import { examine } from './doctor.ts'
import { EXIT, type ExitCode, exitCodeOf, sentence } from './exit.ts'
import { jsonArray } from './sql.ts'
import { formatTable } from './table.ts'

setDefaultTimeout(30_000)

const fail = errorTable({
  HR_TEST_AWAY: { class: 'retriable', meaning: '' },
  HR_TEST_BROKEN: { class: 'fatal', meaning: '' },
  HR_SETTING_INVALID: { class: 'fatal', meaning: '' },
})

describe('exit code of an error', () => {
  const rows: [rule: string, error: unknown, code: ExitCode][] = [
    ['the world is at fault', fail('HR_TEST_AWAY', 'x'), EXIT.unreachable],
    ['a setting is wrong', fail('HR_SETTING_INVALID', 'x'), EXIT.usage],
    ['we are at fault', fail('HR_TEST_BROKEN', 'x'), EXIT.finding],
    ['nobody knows', new Error('x'), EXIT.finding],
    ['not even an error', 'x', EXIT.finding],
  ]
  test.each(rows)('%s', (_, error, code) => expect(exitCodeOf(error)).toBe(code))
})

test('an error is one sentence with its code, and a stack only for who asks', () => {
  const error = fail('HR_TEST_AWAY', 'the server is away')
  expect(sentence(error, 'info')).toBe('the server is away (HR_TEST_AWAY)')
  expect(sentence(error, 'debug')).toContain('verbs.test.ts')
})

describe('rows as one JSON array', () => {
  const rows: [rule: string, lines: string, array: string][] = [
    ['no rows', '', '[]\n'],
    ['one row', '{"a":1}\n', '[{"a":1}]\n'],
    [
      'a number keeps all its digits',
      '{"a":18446744073709551615}\n{"a":2}\n',
      '[{"a":18446744073709551615},\n{"a":2}]\n',
    ],
  ]
  test.each(rows)('%s', (_, lines, array) => expect(jsonArray(lines)).toBe(array))

  test('an answer in another format is refused', () => {
    expect(() => jsonArray('1\tx\n')).toThrow('without a FORMAT clause')
  })
})

test('a table has columns as wide as their widest cell', () => {
  expect(
    formatTable(
      ['A', 'LONG'],
      [
        ['wide cell', '1'],
        ['x', ''],
      ],
    ),
  ).toBe('A          LONG\nwide cell  1\nx')
})

describe('doctor', () => {
  const sound = { name: 'first', check: async () => ({ ok: true as const, detail: 'fine' }) }
  const failing = (unreachable: boolean) => ({
    name: 'second',
    check: async () => ({ ok: false as const, detail: 'away', advice: 'start it', unreachable }),
  })
  const never = {
    name: 'third',
    check: async () => {
      throw new Error('a hop behind a broken one was asked')
    },
  }
  const throwing = {
    name: 'second',
    check: async () => {
      throw fail('HR_TEST_AWAY', 'no answer')
    },
  }

  test('all sound', async () => {
    expect(await examine([sound])).toEqual({
      findings: [{ hop: 'first', state: 'ok', detail: 'fine' }],
      code: EXIT.done,
    })
  })

  test('stops at the first broken hop', async () => {
    const { findings, code } = await examine([sound, failing(false), never])
    expect(findings.map(({ state }) => state)).toEqual(['ok', 'broken', 'not checked'])
    expect(code).toBe(EXIT.finding)
  })

  test('one that cannot be reached has an exit code of its own', async () => {
    expect((await examine([failing(true)])).code).toBe(EXIT.unreachable)
    expect((await examine([throwing])).code).toBe(EXIT.unreachable)
  })
})

describe('the command line', () => {
  const run = async (...args: string[]) => {
    const cli = Bun.spawn([join(import.meta.dir, '../../headrace'), ...args], {
      env: { PATH: process.env.PATH ?? '', HEADRACE_DATA_DIR: '/nonexistent' },
      cwd: '/',
      stdout: 'pipe',
      stderr: 'pipe',
    })
    const [stdout, stderr] = await Promise.all([
      new Response(cli.stdout).text(),
      new Response(cli.stderr).text(),
    ])
    return { code: await cli.exited, stdout, stderr }
  }
  const VERBS = [
    'up',
    'capture',
    'ingest',
    'load',
    'warehouse',
    'sql',
    'kafka',
    'doctor',
    'trace',
    'audit',
    'project',
    'dead-letters',
    'schema',
  ]

  test('--help names every verb, and every verb has help', async () => {
    const { code, stdout } = await run('--help')
    expect(code).toBe(0)
    for (const verb of VERBS) expect(stdout).toMatch(new RegExp(`^  ${verb}\\b`, 'm'))
    for (const verb of VERBS) {
      const help = await run(verb, '--help')
      expect(help.code).toBe(0)
      expect(help.stdout).toContain(`headrace ${verb}`)
    }
  })

  test('--version prints the version', async () => {
    expect((await run('--version')).stdout).toMatch(/^\d+\.\d+\.\d+\n$/)
  })

  const refused: [rule: string, args: string[], code: number, said: string][] = [
    ['an unknown verb', ['fly'], 2, 'unknown command'],
    ['an unknown flag', ['doctor', '--fast'], 2, 'unknown option'],
    ['a missing argument', ['sql'], 2, 'missing required argument'],
    ['a wrong flag', ['doctor', '--log', 'carrier-pigeon'], 2, 'HEADRACE_LOG is "carrier-pigeon"'],
    ['topics of an embedded log', ['kafka', 'plan'], 2, 'the log is embedded'],
    ["ClickHouse's Kafka engine on an embedded log", ['warehouse', 'kafka-engine'], 2, 'the log is embedded'],
    ['nothing runs', ['audit'], 3, 'start it with `headrace up`'],
    ['ClickHouse is away', ['sql', '--clickhouse', 'http://127.0.0.1:1', 'SELECT 1'], 3, 'does not answer'],
  ]
  test("statements for ClickHouse's Kafka engine are printed for the brokers of the log", async () => {
    const { code, stdout } = await run('warehouse', 'kafka-engine', '--log', 'kafka://k1:9092,k2:9092')
    expect(code).toBe(0)
    expect(stdout).toContain("kafka_broker_list = 'k1:9092,k2:9092'")
    expect(stdout).toMatch(/TO events AS[\s\S]*WHERE _error = '';\n/)
  })

  test.each(refused)('%s', async (_, args, code, said) => {
    const result = await run(...args)
    expect(result.stderr).toContain(said)
    expect(result.stderr).not.toContain('    at ')
    expect(result.code).toBe(code)
  })
})
