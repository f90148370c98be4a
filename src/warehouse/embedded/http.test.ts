/** The embedded engine's front, driven by `@clickhouse/client` and by plain requests as `curl` sends them. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test'
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { type ClickHouseClient, ClickHouseError, ClickHouseLogLevel, createClient } from '@clickhouse/client'
import { startWarehouseProcess, type WarehouseProcess } from '../../../test/support/warehouse.ts'
import { SHARED_MEMORY, spoolPrefix } from './spool.ts'

// Syncing many parts on a busy machine takes its time; a test that hangs still ends.
setDefaultTimeout(60_000)

const dir = mkdtempSync(join(tmpdir(), 'headrace-front-'))
let live: WarehouseProcess
let client: ClickHouseClient
beforeAll(async () => {
  live = await startWarehouseProcess(dir)
  client = createClient({ url: live.url, password: 'any', log: { level: ClickHouseLogLevel.OFF } })
})
afterAll(async () => {
  await client.close()
  await live.kill('SIGTERM')
  rmSync(dir, { recursive: true, force: true })
})

const ask = (query: string, init: RequestInit = {}) =>
  fetch(`${live.url}/?${query}`, { ...init, headers: { 'accept-encoding': 'identity', ...init.headers } })
const send = (body: string | Uint8Array, query = '', headers: Record<string, string> = {}) =>
  ask(query, { method: 'POST', body: body as string, headers })
const q = encodeURIComponent

describe('requests as curl sends them', () => {
  const ANSWERS: Record<string, [() => Promise<Response>, number, string]> = {
    ping: [() => fetch(`${live.url}/ping`), 200, 'Ok.\n'],
    'nothing asked': [() => ask(''), 200, 'Ok.\n'],
    'query in the URL': [() => ask(`query=${q('SELECT 1 + 1')}`), 200, '2\n'],
    'query in the body': [() => send('SELECT 1 + 1'), 200, '2\n'],
    'query in both: one text': [() => send(' + 1', `query=${q('SELECT 1')}`), 200, '2\n'],
    'trailing semicolon': [() => send('SELECT 3;\n'), 200, '3\n'],
    'format in the text': [() => send('SELECT 1 AS a FORMAT JSONEachRow'), 200, '{"a":1}\n'],
    'format as a parameter': [() => send('SELECT 1 AS a', 'default_format=JSONEachRow'), 200, '{"a":1}\n'],
    'format as a header': [
      () => send('SELECT 1 AS a', '', { 'X-ClickHouse-Format': 'CSVWithNames' }),
      200,
      '"a"\n1\n',
    ],
    'a setting': [() => send("SELECT getSetting('max_threads')", 'max_threads=3'), 200, '3\n'],
    'another database': [() => send('SELECT currentDatabase()', 'database=system'), 200, 'system\n'],
    'the default database is ours': [
      () => send('SELECT currentDatabase()', 'database=default'),
      200,
      'headrace\n',
    ],
    'a parameter': [
      () => send('SELECT {a:String}, {b:UInt8}', `param_a=${q("it's \\t")}&param_b=7`),
      200,
      "it\\'s \\t\t7\n",
    ],
    'a parameter of an earlier request is gone': [() => send('SELECT {b:UInt8}'), 400, 'Code: 456. '],
    'a setting of an earlier request is gone': [
      () => send("SELECT getSetting('max_threads') = 3"),
      200,
      '0\n',
    ],
    'syntax error': [() => send('SELEC 1'), 400, 'Code: 62. DB::Exception: Syntax error'],
    'unknown table': [() => send('SELECT 1 FROM nowhere'), 404, 'Code: 60. DB::Exception: '],
    'unknown setting': [() => send('SELECT 1', 'no_such_setting=1'), 404, 'Code: 115. DB::Exception: '],
    'a setting name that is no name': [
      () => send('SELECT 1', `${q('a=1,b')}=1`),
      404,
      'Code: 115. DB::Exception: ',
    ],
    'two statements': [() => send('SELECT 1; SELECT 2'), 400, 'Code: 62. '],
    'a change by GET': [
      () => ask(`query=${q('CREATE TABLE x (a Int8) ENGINE = Memory')}`),
      403,
      'Code: 164. ',
    ],
    'a session': [() => send('SELECT 1', 'session_id=a'), 501, 'Code: 48. '],
    'native compression': [() => send('SELECT 1', 'compress=1'), 501, 'Code: 48. '],
    'an encoding that is not gzip': [
      () => send('SELECT 1', '', { 'content-encoding': 'br' }),
      501,
      'Code: 48. ',
    ],
    'too long a run': [() => send('SELECT sleep(3)', 'max_execution_time=1'), 408, 'Code: 159. '],
    'a page of another site': [
      () => send('SELECT 1', '', { origin: 'https://example.com' }),
      403,
      'Code: 497. ',
    ],
    'a host name that is not ours': [() => send('SELECT 1', '', { host: 'example.com' }), 403, 'Code: 497. '],
    'SET is of its request only': [() => send('SET max_threads = 9'), 200, ''],
    'and not of the next': [() => send("SELECT getSetting('max_threads') = 9"), 200, '0\n'],
  }
  for (const [rule, [call, status, text]] of Object.entries(ANSWERS))
    test(rule, async () => {
      const response = await call()
      const body = await response.text()
      expect({ status: response.status, body: status === 200 ? body : body.slice(0, text.length) }).toEqual({
        status,
        body: text,
      })
      if (status !== 200)
        expect(response.headers.get('x-clickhouse-exception-code')).toBe(/Code: (\d+)/.exec(text)![1]!)
    })

  test('headers say what was done', async () => {
    const response = await send('SELECT number FROM numbers(3) FORMAT JSONCompact', 'query_id=mine')
    expect(response.headers.get('x-clickhouse-query-id')).toBe('mine')
    expect(response.headers.get('x-clickhouse-format')).toBe('JSONCompact')
    expect(response.headers.get('content-type')).toStartWith('application/json')
    expect(JSON.parse(response.headers.get('x-clickhouse-summary')!)).toMatchObject({ result_rows: '3' })
  })

  test('an answer is gzip when both sides want it', async () => {
    const raw = await fetch(
      `${live.url}/?enable_http_compression=1&query=${q('SELECT * FROM numbers(5000)')}`,
      {
        headers: { 'accept-encoding': 'gzip' },
        decompress: false,
      },
    )
    expect(raw.headers.get('content-encoding')).toBe('gzip')
    const text = new TextDecoder().decode(Bun.gunzipSync(await raw.bytes()))
    expect(text.split('\n')).toHaveLength(5001)
  })
})

describe('inserts', () => {
  const rowBinary = (from: number, count: number): Buffer =>
    Buffer.concat(
      Array.from({ length: count }, (_, i) => {
        const row = Buffer.alloc(4 + 1 + 3)
        row.writeUInt32LE(from + i)
        row[4] = 3
        row.write(';\n\0', 5)
        return row
      }),
    )
  const WAYS: Record<string, [(table: string) => Promise<Response>, string]> = {
    'query in the URL, binary data in the body': [
      (table) => send(rowBinary(0, 3), `query=${q(`INSERT INTO ${table} FORMAT RowBinary`)}`),
      '3\t";\\n\\0"',
    ],
    'query and data in the body': [
      (table) => send(`INSERT INTO ${table} (a, b) FORMAT JSONEachRow\n{"a":1,"b":"x"}\n{"a":2,"b":"x"}`),
      '2\t"x"',
    ],
    'query and binary data in the body': [
      (table) =>
        send(Buffer.concat([Buffer.from(`INSERT INTO ${table} FORMAT RowBinary\n`), rowBinary(0, 2)])),
      '2\t";\\n\\0"',
    ],
    'a large body after its query': [
      (table) =>
        send(Buffer.concat([Buffer.from(`INSERT INTO ${table} FORMAT RowBinary\n`), rowBinary(0, 200_000)])),
      '200000\t";\\n\\0"',
    ],
    values: [(table) => send(`INSERT INTO ${table} VALUES (1, 'c;d'), (2, 'c;d')`), '2\t"c;d"'],
    'head in the URL, values in the body': [
      (table) => send("(1, 'e')", `query=${q(`INSERT INTO ${table} VALUES`)}`),
      '1\t"e"',
    ],
    'from a query': [(table) => send(`INSERT INTO ${table} SELECT number, 'f' FROM numbers(4)`), '4\t"f"'],
    'gzip body': [
      (table) =>
        send(gzipSync(rowBinary(0, 1000)), `query=${q(`INSERT INTO ${table} FORMAT RowBinary`)}`, {
          'content-encoding': 'gzip',
        }),
      '1000\t";\\n\\0"',
    ],
    'settings in the text': [
      (table) => send(`INSERT INTO ${table} SETTINGS max_insert_threads = 1 FORMAT CSV\n1,"g"`),
      '1\t"g"',
    ],
  }
  let next = 0
  for (const [rule, [call, stored]] of Object.entries(WAYS))
    test(rule, async () => {
      const table = `way_${next++}`
      await send(`CREATE TABLE ${table} (a UInt32, b String) ENGINE = MergeTree ORDER BY a`)
      const response = await call(table)
      expect(await response.text()).toBe('')
      expect(response.status).toBe(200)
      const read = await send(`SELECT count(), toJSONString(any(b)) FROM ${table} FORMAT TSVRaw`)
      expect((await read.text()).trim().replace('\\u0000', '\\0')).toBe(stored)
    })

  const BAD: Record<string, [(table: string) => Promise<Response>, number, string]> = {
    'data that does not parse': [
      (table) => send(`INSERT INTO ${table} FORMAT JSONEachRow\n{"a":"no"}`),
      400,
      'Code: 27. DB::Exception: Cannot parse input',
    ],
    'a body that is not gzip': [
      (table) =>
        send('hello', `query=${q(`INSERT INTO ${table} FORMAT CSV`)}`, { 'content-encoding': 'gzip' }),
      400,
      'Code: 354. ',
    ],
    'a gzip body that ends early': [
      (table) =>
        send(
          gzipSync(rowBinary(0, 5000)).subarray(0, 200),
          `query=${q(`INSERT INTO ${table} FORMAT RowBinary`)}`,
          {
            'content-encoding': 'gzip',
          },
        ),
      400,
      'Code: 354. ',
    ],
    'an unknown format': [(table) => send(`INSERT INTO ${table} FORMAT NoSuch\n1`), 400, 'Code: 73. '],
  }
  for (const [rule, [call, status, text]] of Object.entries(BAD))
    test(`${rule}: refused, nothing stored`, async () => {
      const table = `bad_${next++}`
      await send(`CREATE TABLE ${table} (a UInt32, b String) ENGINE = MergeTree ORDER BY a`)
      const response = await call(table)
      expect({ status: response.status, text: (await response.text()).slice(0, text.length) }).toEqual({
        status,
        text,
      })
      expect(await (await send(`SELECT count() FROM ${table}`)).text()).toBe('0\n')
    })

  test('a connection that is cut in the middle of a body stores nothing, and its token is free', async () => {
    await send(
      'CREATE TABLE cut (a UInt32, b String) ENGINE = MergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = 100',
    )
    const path = `/?insert_deduplication_token=cut&query=${q('INSERT INTO cut FORMAT RowBinary')}`
    const rows = rowBinary(0, 10_000)
    for (const framing of ['Transfer-Encoding: chunked', `Content-Length: ${rows.length}`]) {
      const socket = connect(Number(new URL(live.url).port), '127.0.0.1')
      await new Promise((resolve) => socket.once('connect', resolve))
      socket.write(`POST ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n${framing}\r\n\r\n`)
      const half = rows.subarray(0, rows.length / 2)
      if (framing.startsWith('Transfer')) socket.write(`${half.length.toString(16)}\r\n`)
      await new Promise((resolve) => socket.write(half, resolve))
      socket.end()
      await new Promise((resolve) => socket.once('close', resolve))
    }
    expect(await (await send('SELECT count() FROM cut')).text()).toBe('0\n')
    expect((await fetch(`${live.url}${path}`, { method: 'POST', body: new Uint8Array(rows) })).status).toBe(
      200,
    )
    expect(await (await send('SELECT count() FROM cut')).text()).toBe('10000\n')
  })

  test('no file of a finished insert is left', () => {
    const left = [join(dir, 'spool'), SHARED_MEMORY].flatMap((folder) =>
      existsSync(folder) ? readdirSync(folder) : [],
    )
    expect(left.filter((name) => name.startsWith(spoolPrefix(dir)))).toEqual([])
  })
})

describe('@clickhouse/client', () => {
  test('queries with parameters of every kind', async () => {
    const parameters = {
      s: `a'b\\c\td\ne "f" é 日 ${'x'.repeat(1000)}`,
      n: -5,
      big: 2n ** 60n,
      list: ['x', "y'z"],
      flag: true,
      at: new Date('2026-11-23T01:02:03Z'),
    }
    const answer = await client.query({
      query:
        'SELECT {s:String} AS s, {n:Int32} AS n, toString({big:UInt64}) AS big, {list:Array(String)} AS list, {flag:Bool} AS flag, {at:DateTime} AS at',
      query_params: parameters,
      format: 'JSONEachRow',
    })
    expect(await answer.json()).toEqual([
      { ...parameters, big: String(parameters.big), at: '2026-11-23 01:02:03' },
    ] as never)
  })

  test('inserts objects, compressed, and reads them back compressed', async () => {
    const packed = createClient({ url: live.url, compression: { request: true, response: true } })
    await packed.command({ query: 'CREATE TABLE objects (a UInt32, b String) ENGINE = MergeTree ORDER BY a' })
    const rows = Array.from({ length: 3000 }, (_, a) => ({ a, b: `row ${a}` }))
    await packed.insert({ table: 'objects', values: rows, format: 'JSONEachRow' })
    const answer = await packed.query({ query: 'SELECT a, b FROM objects ORDER BY a', format: 'JSONEachRow' })
    expect(await answer.json()).toEqual(rows)
    await packed.close()
  })

  test('gives its error type', async () => {
    const error = await client.query({ query: 'SELECT 1 FROM nowhere' }).catch((caught) => caught)
    expect(error).toBeInstanceOf(ClickHouseError)
    expect(error).toMatchObject({ code: '60', type: 'UNKNOWN_TABLE' })
  })

  test('pings', async () => {
    expect(await client.ping()).toEqual({ success: true })
    expect((await client.ping({ select: true })).success).toBe(true)
  })
})

describe('limits', () => {
  test('inserts go on while slow reads fill the queue, and one read too many is refused with 202', async () => {
    await send('CREATE TABLE beside (a UInt8) ENGINE = MergeTree ORDER BY a')
    // 3 of 4 sessions read, 64 wait, the rest is refused at once.
    const slow = Array.from({ length: 120 }, (_, i) =>
      send(`SELECT sleep(0.1), ${i}`).then(async (response) => ({
        status: response.status,
        text: await response.text(),
      })),
    )
    const early = await Promise.race(
      slow.slice(80).map(async (one) => ((await one).status === 503 ? one : new Promise<never>(() => {}))),
    )
    expect(early.text).toContain('Code: 202. DB::Exception: Too many simultaneous queries')
    const answers = await Promise.all(slow)
    expect(answers.filter(({ status }) => status === 200).length).toBeGreaterThanOrEqual(67)
    for (const { status } of answers) expect([200, 503]).toContain(status)
    expect((await send('1', `query=${q('INSERT INTO beside FORMAT CSV')}`)).status).toBe(200)
  }, 30_000)

  test('memory goes back to the system when nobody asks any more', async () => {
    const purges = async () =>
      Number(/memory_purges_total (\d+)/.exec(await (await fetch(`${live.url}/metrics`)).text())?.[1] ?? 0)
    await send('SELECT 1')
    const before = await purges()
    const deadline = performance.now() + 15_000
    while ((await purges()) === before) {
      if (performance.now() > deadline) throw new Error('nothing was given back')
      await Bun.sleep(100)
    }
  }, 20_000)
})
