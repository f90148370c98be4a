/** Requests in one piece on the library's connection, against a server that answers what the test says. */
import { afterEach, describe, expect, test } from 'bun:test'
import { createServer, type Server, type Socket } from 'node:net'
import { apiVersionsV3, type ConnectionOptions } from '@platformatic/kafka'
import { waitFor } from '../../../test/support/wait-for.ts'
import { CORRELATION_AT, FrameConnection } from './frame-connection.ts'

const SURELY_MS = 20_000
const closing: (() => void)[] = []

afterEach(() => {
  for (const close of closing.splice(0)) close()
})

/** Calls `onRequest` with each whole request. */
async function connected(
  onRequest: (socket: Socket, request: Buffer) => void,
  options: ConnectionOptions = {},
): Promise<FrameConnection> {
  const server: Server = createServer((socket) => {
    let bytes = Buffer.alloc(0)
    socket.on('error', () => {})
    socket.on('data', (chunk) => {
      bytes = Buffer.concat([bytes, chunk as Buffer])
      while (bytes.length >= 4 && bytes.length >= 4 + bytes.readInt32BE(0)) {
        const end = 4 + bytes.readInt32BE(0)
        const request = bytes.subarray(0, end)
        bytes = bytes.subarray(end)
        onRequest(socket, request)
      }
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const connection = new FrameConnection('test', { requestTimeout: SURELY_MS, ...options })
  connection.on('error', () => {})
  closing.push(
    () => server.close(),
    () => connection.socket?.destroy(),
  )
  await connection.connect('127.0.0.1', (server.address() as { port: number }).port)
  return connection
}

function requestOf(body: Buffer): Buffer {
  const frame = Buffer.alloc(CORRELATION_AT + 4 + body.length)
  frame.writeInt32BE(frame.length - 4, 0)
  body.copy(frame, CORRELATION_AT + 4)
  return frame
}

const idOf = (request: Buffer) => request.readInt32BE(CORRELATION_AT)

function answerTo(id: number, body: Buffer): Buffer {
  const answer = Buffer.alloc(8 + body.length)
  answer.writeInt32BE(answer.length - 4, 0)
  answer.writeInt32BE(id, 4)
  body.copy(answer, 8)
  return answer
}

function exchange(connection: FrameConnection, body: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    connection.exchange(requestOf(body), (error, answer) => (error ? reject(error) : resolve(answer!)))
  })
}

describe('requests in one piece', () => {
  test('arrive whole and are answered one after the other, whatever their size', async () => {
    const connection = await connected((socket, request) => {
      socket.write(answerTo(idOf(request), request.subarray(CORRELATION_AT + 4)))
    })
    for (const size of [0, 1, 1_000, 256 << 10, (256 << 10) + 1, 9 << 20]) {
      const body = Buffer.alloc(size)
      for (let at = 0; at < size; at += 997) body[at] = at % 251
      expect((await exchange(connection, body)).equals(body)).toBe(true)
    }
  })

  test('an answer in pieces of one byte is put together', async () => {
    const connection = await connected(async (socket, request) => {
      for (const byte of answerTo(idOf(request), Buffer.from('piece by piece'))) {
        socket.write(Buffer.from([byte]))
        await Bun.sleep(1)
      }
    })
    expect(String(await exchange(connection, Buffer.from('x')))).toBe('piece by piece')
  })

  test('requests of the library go between them', async () => {
    const noVersions = Buffer.from([0, 0, 1, 0, 0, 0, 0, 0])
    const connection = await connected((socket, request) => {
      const id = idOf(request)
      socket.write(answerTo(id, id < 0 ? Buffer.from('ours') : noVersions))
    })
    for (let i = 0; i < 3; i++) {
      expect(String(await exchange(connection, Buffer.from('x')))).toBe('ours')
      const theirs = await new Promise<unknown>((resolve, reject) => {
        apiVersionsV3.api(connection, 'test', '1', (error, answer) =>
          error ? reject(error) : resolve(answer),
        )
      })
      expect(theirs).toMatchObject({ errorCode: 0, apiKeys: [] })
    }
  })

  test('the library logs in again only when no request of ours is on its way', async () => {
    const LOGINS: Record<number, Buffer> = {
      // ApiVersions: none named, so that the library takes the newest; SaslHandshake: PLAIN; SaslAuthenticate: accepted.
      18: Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
      17: Buffer.from([0, 0, 0, 0, 0, 1, 0, 5, ...Buffer.from('PLAIN')]),
      36: Buffer.from([0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    }
    const came: number[] = []
    let release: () => void = () => {}
    const connection = await connected(
      (socket, request) => {
        const api = request.readInt16BE(4)
        came.push(api)
        const answer = LOGINS[api]
        if (answer) socket.write(answerTo(idOf(request), answer))
        else release = () => socket.write(answerTo(idOf(request), Buffer.from('ours')))
      },
      { sasl: { mechanism: 'PLAIN', username: 'user', password: 'pass' } },
    )
    expect(came).toEqual([18, 17, 36])
    const exchanged = exchange(connection, Buffer.alloc(3 << 20))
    connection.reauthenticate()
    await waitFor('the request at the server', () => came.length === 4, SURELY_MS)
    release()
    expect(String(await exchanged)).toBe('ours')
    await waitFor('the second login', () => came.length === 6 && connection.isConnected(), SURELY_MS)
    expect(came).toEqual([18, 17, 36, 0, 17, 36])
  })

  const refusals: [string, (socket: Socket, request: Buffer) => void, string][] = [
    [
      'a length that is none',
      (socket) => socket.write(Buffer.from([0x7f, 0, 0, 0, 0, 0, 0, 0])),
      'an answer of 2130706432 bytes',
    ],
    [
      'the answer to another request',
      (socket, request) => socket.write(answerTo(idOf(request) - 1, Buffer.from('x'))),
      'a request that was not sent',
    ],
    ['the end of the connection', (socket) => socket.destroy(), 'the connection was closed'],
    [
      'half an answer and the end',
      (socket, request) => socket.end(answerTo(idOf(request), Buffer.from('half')).subarray(0, 9)),
      'the connection was closed',
    ],
  ]
  test.each(refusals)('%s fails the request and ends the connection', async (_what, act, message) => {
    const connection = await connected(act)
    await expect(exchange(connection, Buffer.from('x'))).rejects.toThrow(message)
    await waitFor('end of the connection', () => !connection.isConnected(), SURELY_MS)
  })

  test('an answer before the request has gone out is none', async () => {
    // Reads the first part only; the rest stays with the client.
    const server = createServer((socket) => {
      socket.on('error', () => {})
      socket.once('data', (chunk) => {
        socket.pause()
        socket.write(answerTo(idOf(chunk as Buffer), Buffer.from('early')))
      })
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const connection = new FrameConnection('test')
    connection.on('error', () => {})
    closing.push(
      () => server.close(),
      () => connection.socket?.destroy(),
    )
    await connection.connect('127.0.0.1', (server.address() as { port: number }).port)
    await expect(exchange(connection, Buffer.alloc(64 << 20))).rejects.toThrow('a request that was not sent')
  })

  test('a second one at the same time is refused, and the first is answered all the same', async () => {
    const connection = await connected((socket, request) => {
      setTimeout(() => socket.write(answerTo(idOf(request), Buffer.from('answer'))), 20)
    })
    const first = exchange(connection, Buffer.from('a'))
    expect(exchange(connection, Buffer.from('b'))).rejects.toThrow('on its way already')
    expect(String(await first)).toBe('answer')
  })
})
