/** Starts process.fixture.ts for tests and hands its lines over; killed by its own id only. */
import { join } from 'node:path'
import type { Task } from './process.fixture.ts'

export type Line = Record<string, unknown>

export type TestProcess = {
  readonly pid: number
  /** All lines so far. */
  readonly lines: Line[]
  /** SIGKILL; resolves when it is gone and its last whole lines were read. */
  kill(): Promise<void>
  signal(name: 'SIGSTOP' | 'SIGCONT'): void
  /** Closes its input and waits for its end. Throws when it failed. */
  end(): Promise<void>
}

export function startProcess(task: Task, onLine: (line: Line) => void = () => {}): TestProcess {
  const child = Bun.spawn(
    [process.execPath, join(import.meta.dir, 'process.fixture.ts'), JSON.stringify(task)],
    {
      stdin: 'pipe',
      stdout: 'pipe',
      stderr: 'inherit',
    },
  )
  const lines: Line[] = []
  const read = (async () => {
    const decoder = new TextDecoder()
    let rest = ''
    for await (const bytes of child.stdout) {
      const parts = (rest + decoder.decode(bytes, { stream: true })).split('\n')
      rest = parts.pop()!
      for (const part of parts) {
        const line = JSON.parse(part) as Line
        lines.push(line)
        onLine(line)
      }
    }
  })()
  return {
    pid: child.pid,
    lines,
    async kill() {
      child.kill('SIGKILL')
      await child.exited
      await read
    },
    signal: (name) => child.kill(name),
    async end() {
      child.stdin.end()
      const code = await child.exited
      await read
      if (code !== 0) throw new Error(`the process for ${task.task} ended with ${code}`)
    },
  }
}
