/**
 * The load on a capture server, as a process of its own: keeps connections busy, one request at a time on each, or,
 * with a rate, sends at fixed moments whatever the answers do (latencies then count from the moment a request was due).
 * Each request has other bytes than the one before on its connection. `bun load.ts <url> <body> <seconds> <connections> [rate]`
 */
import { connect, type Socket } from 'node:net'
import { quantile } from '../measure.ts'
import { BODIES, type BodyName } from './bodies.ts'

export type LoadResult = { requests: number; failed: number; seconds: number; p50Ms: number; p99Ms: number }

const DIFFERENT_BODIES = 64
const DUE_POLL_MS = 1

const [address, bodyName, secondsText, connectionsText, rateText = '0'] = process.argv.slice(2)
const { hostname, port } = new URL(address!)
const seconds = Number(secondsText)
const connections = Number(connectionsText)
const requestsPerSecond = Number(rateText)

const requests = Array.from({ length: DIFFERENT_BODIES }, () => {
  const body = BODIES[bodyName as BodyName].make()
  const head = `POST /batch/ HTTP/1.1\r\nHost: ${hostname}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n`
  return Buffer.concat([Buffer.from(head), body])
})
const latencies: number[] = []
let failed = 0
let next = 0

function take(): Buffer {
  next = (next + 1) % requests.length
  return requests[next]!
}

/** Counts an answer. They are small: they come in one piece. */
function note(answer: Buffer, sinceMs: number): void {
  latencies.push(performance.now() - sinceMs)
  if (answer.toString('latin1', 9, 12) !== '200') failed++
}

function open(onAnswer: (socket: Socket, answer: Buffer) => void): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: hostname, port: Number(port), noDelay: true }, () => resolve(socket))
    socket.on('error', reject)
    socket.on('data', (answer) => onAnswer(socket, answer as Buffer))
  })
}

async function closedLoop(): Promise<void> {
  const until = performance.now() + seconds * 1000
  await Promise.all(
    Array.from({ length: connections }, async () => {
      let sentAt = 0
      let ended: () => void
      const end = new Promise<void>((resolve) => {
        ended = resolve
      })
      const send = (socket: Socket) => {
        sentAt = performance.now()
        socket.write(take())
      }
      const socket = await open((answered, answer) => {
        note(answer, sentAt)
        if (performance.now() < until) return send(answered)
        answered.destroy()
        ended()
      })
      send(socket)
      await end
    }),
  )
}

async function openLoop(): Promise<void> {
  const since = new Map<Socket, number>()
  const idle: Socket[] = []
  const due: number[] = []
  const dispatch = () => {
    while (due.length > 0 && idle.length > 0) {
      const socket = idle.pop()!
      since.set(socket, due.shift()!)
      socket.write(take())
    }
  }
  for (let i = 0; i < connections; i++) {
    idle.push(
      await open((socket, answer) => {
        note(answer, since.get(socket)!)
        idle.push(socket)
        dispatch()
      }),
    )
  }
  const from = performance.now()
  let planned = 0
  await new Promise<void>((resolve) => {
    const timer = setInterval(() => {
      const now = performance.now()
      const ended = now - from >= seconds * 1000
      while (!ended && planned / requestsPerSecond <= (now - from) / 1000) {
        due.push(from + (planned / requestsPerSecond) * 1000)
        planned++
      }
      dispatch()
      if (!ended || due.length > 0 || idle.length < connections) return
      clearInterval(timer)
      resolve()
    }, DUE_POLL_MS)
  })
  for (const socket of idle) socket.destroy()
}

const from = performance.now()
await (requestsPerSecond > 0 ? openLoop() : closedLoop())
const result: LoadResult = {
  requests: latencies.length,
  failed,
  seconds: (performance.now() - from) / 1000,
  p50Ms: quantile(latencies, 0.5),
  p99Ms: quantile(latencies, 0.99),
}
process.send?.(result)
