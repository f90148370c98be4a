/** The way out against real servers on loopback: a web server, a TLS server, and a DNS server that changes its mind. */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { createSocket, type Socket } from 'node:dgram'
import { Resolver } from 'node:dns/promises'
import type { AddressInfo } from 'node:net'
import { AddressRules } from './address.ts'
import { ANSWER_BYTES_MAX, HttpClient, type HttpClientOptions, HttpFault } from './client.ts'

const LOOPBACK = AddressRules.read('127.0.0.1')

let hits: string[] = []
const server = Bun.serve({
  port: 0,
  hostname: '127.0.0.1',
  async fetch(request) {
    const { pathname } = new URL(request.url)
    hits.push(`${request.headers.get('host')}${pathname}`)
    switch (pathname) {
      case '/redirect':
        return new Response('', { status: 302, headers: { location: '/secret' } })
      case '/endless':
        return new Response(
          new ReadableStream({ pull: (out) => out.enqueue(new Uint8Array(65_536).fill(120)) }),
        )
      case '/hangs':
        return new Promise<Response>(() => {})
      case '/slow-body':
        return new Response(new ReadableStream({ start: (out) => out.enqueue(new Uint8Array(10)) }))
      default:
        return new Response(await request.text())
    }
  },
})
afterAll(() => server.stop(true))

function client(options: Partial<HttpClientOptions> = {}) {
  return new HttpClient({ rules: LOOPBACK, resolve: async () => ['127.0.0.1'], ...options })
}

function request(path: string, timeoutMs = 2_000, host = 'hook.test') {
  const url = `http://${host}:${server.port}${path}`
  return { method: 'POST' as const, url, headers: {}, body: 'hello', timeoutMs }
}

async function faultOf(work: Promise<unknown>): Promise<HttpFault> {
  const error = await work.then(
    () => undefined,
    (caught: unknown) => caught,
  )
  expect(error).toBeInstanceOf(HttpFault)
  return error as HttpFault
}

describe('answers', () => {
  test('goes to the address that was judged, under the name that was asked for', async () => {
    hits = []
    const answer = await client().send(request('/plain'))
    expect(answer).toMatchObject({ status: 200, body: 'hello' })
    expect(hits).toEqual([`hook.test:${server.port}/plain`])
  })

  test('a redirect is an answer, and is not followed', async () => {
    hits = []
    const answer = await client().send(request('/redirect'))
    expect([answer.status, answer.header('location')]).toEqual([302, '/secret'])
    expect(hits).toHaveLength(1)
  })

  test('an answer without end is cut off', async () => {
    const before = process.memoryUsage.rss()
    const answer = await client().send(request('/endless'))
    expect(answer.body).toHaveLength(ANSWER_BYTES_MAX)
    expect(process.memoryUsage.rss() - before).toBeLessThan(64 * 2 ** 20)
  })

  test.each(['/hangs', '/slow-body'])('%s ends at the deadline', async (path) => {
    const fault = await faultOf(client().send(request(path, 150)))
    expect(fault.message).toBe('no answer within 150 ms')
  })

  test('nobody listens', async () => {
    const url = 'http://hook.test:1/'
    const fault = await faultOf(client().send({ ...request('/'), url }))
    expect(fault.message).toContain('ECONNREFUSED')
  })
})

describe('addresses', () => {
  test.each([
    ['http://127.0.0.1/', ['127.0.0.1']],
    ['http://2130706433/', ['127.0.0.1']],
    ['http://[::1]/', ['::1']],
    ['http://metadata.test/', ['169.254.169.254']],
    ['http://mapped.test/', ['::ffff:10.0.0.1']],
    ['http://none.test/', []],
  ])('%s is refused before anything is sent', async (url, addresses) => {
    const strict = client({ rules: new AddressRules(), resolve: async () => addresses })
    const fault = await faultOf(strict.send({ ...request('/'), url }))
    expect(fault.refused).toBe(true)
  })

  test('of several addresses only those that may be used are', async () => {
    hits = []
    const mixed = client({ resolve: async () => ['10.0.0.1', '127.0.0.1', '169.254.169.254'] })
    for (let i = 0; i < 6; i++) expect((await mixed.send(request('/mixed'))).status).toBe(200)
    expect(hits).toHaveLength(6)
  })

  test('other schemes are refused', async () => {
    const fault = await faultOf(client().send({ ...request('/'), url: 'file:///etc/passwd' }))
    expect(fault.refused).toBe(true)
  })
})

describe('a DNS server that changes its mind', () => {
  let dns: Socket
  let asked = 0
  let answers: string[] = []
  beforeAll(async () => {
    dns = createSocket('udp4')
    dns.on('message', (query, from) => {
      dns.send(answerTo(query, answers[Math.min(asked++, answers.length - 1)]!), from.port, from.address)
    })
    await new Promise<void>((resolve) => dns.bind(0, '127.0.0.1', resolve))
  })
  afterAll(() => dns.close())

  test('each connection goes where the look-up that was judged said, never where the next one says', async () => {
    const resolver = new Resolver()
    resolver.setServers([`127.0.0.1:${(dns.address() as AddressInfo).port}`])
    let nowMs = 0
    const rebinding = client({
      rules: AddressRules.read('127.0.0.1'),
      resolve: (host) => resolver.resolve4(host),
      clock: () => nowMs,
    })
    // Allowed first, then an address of our own network: no request may go there.
    answers = ['127.0.0.1', '10.255.255.1']
    asked = 0
    expect((await rebinding.send(request('/first', 2_000, 'rebind.test'))).status).toBe(200)
    // Within the time that a look-up is good for, the judged address is used on.
    expect((await rebinding.send(request('/second', 2_000, 'rebind.test'))).status).toBe(200)
    expect(asked).toBe(1)
    nowMs += 60_000
    const fault = await faultOf(rebinding.send(request('/third', 2_000, 'rebind.test')))
    expect(fault.refused).toBe(true)
    expect(fault.message).toContain('10.255.255.1')
  })
})

/** One A record without life time, for any question. */
function answerTo(query: Buffer, address: string): Buffer {
  const question = query.subarray(12, query.indexOf(0, 12) + 5)
  const head = Buffer.from(query.subarray(0, 12))
  head.writeUInt16BE(0x8180, 2)
  head.writeUInt16BE(1, 6)
  head.writeUInt32BE(0, 8)
  const record = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, ...address.split('.').map(Number)])
  return Buffer.concat([head, question, record])
}
