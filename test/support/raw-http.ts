/** HTTP/1.1 as bytes on a socket, for what no client library would send. */
import { connect, type Socket } from 'node:net'
import { waitFor } from './wait-for.ts'

export type RawAnswer = { status: number; headers: Headers; body: string }

export class RawConnection {
  /** True when the other side has ended it. */
  closed = false
  private text = ''
  private readonly sending = new Set<() => void>()

  private constructor(private readonly socket: Socket) {
    socket.setEncoding('latin1')
    socket.on('data', (piece: string) => {
      this.text += piece
    })
    // A reset while we write is an end like any other; what was answered before is looked at.
    socket.on('error', () => undefined)
    socket.on('close', () => {
      this.closed = true
      for (const resolve of this.sending) resolve()
    })
  }

  static async open(url: string): Promise<RawConnection> {
    const { hostname, port } = new URL(url)
    const socket = connect(Number(port), hostname)
    const connection = new RawConnection(socket)
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve)
      socket.once('error', reject)
    })
    return connection
  }

  /** Resolves when it is out of our hands, or the connection is gone. */
  send(bytes: string | Uint8Array): Promise<void> {
    const data = typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes
    return new Promise((resolve) => {
      if (this.closed) return resolve()
      this.sending.add(resolve)
      this.socket.write(data, () => {
        this.sending.delete(resolve)
        // A turn of the loop, so that whoever sends without end hears when the connection has ended.
        setImmediate(resolve)
      })
    })
  }

  /** No more from us; the other direction stays open. */
  halfClose(): void {
    this.socket.end()
  }

  destroy(): void {
    this.socket.destroy()
  }

  /** What has come so far, split into answers; an answer that is not whole is not among them. */
  get answers(): RawAnswer[] {
    const answers: RawAnswer[] = []
    for (let at = 0; ; ) {
      const headEnd = this.text.indexOf('\r\n\r\n', at)
      if (headEnd < 0) return answers
      const [first = '', ...lines] = this.text.slice(at, headEnd).split('\r\n')
      const headers = new Headers(
        lines.map((line): [string, string] => [
          line.slice(0, line.indexOf(':')),
          line.slice(line.indexOf(':') + 1).trim(),
        ]),
      )
      const end = headEnd + 4 + Number(headers.get('content-length') ?? 0)
      if (end > this.text.length) return answers
      answers.push({ status: Number(first.split(' ')[1]), headers, body: this.text.slice(headEnd + 4, end) })
      at = end
    }
  }

  get statuses(): number[] {
    return this.answers.map(({ status }) => status)
  }

  async awaitAnswers(count: number, withinMs = 15_000): Promise<RawAnswer[]> {
    await waitFor(
      `${count} answers`,
      () => this.answers.length >= count || this.closed,
      withinMs,
      () => JSON.stringify(this.text.slice(0, 500)),
    )
    return this.answers
  }

  async awaitEnd(withinMs = 15_000): Promise<RawAnswer[]> {
    await waitFor(
      'end of the connection',
      () => this.closed,
      withinMs,
      () => JSON.stringify(this.text.slice(0, 500)),
    )
    return this.answers
  }
}
