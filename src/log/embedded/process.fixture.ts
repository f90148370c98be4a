/**
 * A process of its own for tests: opens the log in a folder and sends, reads or joins until it is killed or its
 * input ends, telling what happens in lines of JSON. Usage: bun process.fixture.ts '<Task as JSON>'
 */
import { sendNumbered } from '../conformance/numbered.ts'
import { openEmbeddedLog } from './index.ts'

export type Task =
  | { task: 'send'; dir: string; topic: string; partitions: number; from: number }
  | { task: 'read'; dir: string; topic: string; partition: number; from: number }
  | { task: 'join'; dir: string; topic: string; group: string }

function say(line: unknown): void {
  process.stdout.write(`${JSON.stringify(line)}\n`)
}

async function run(task: Task): Promise<void> {
  const log = await openEmbeddedLog({ dir: task.dir })
  const stop = new AbortController()
  process.stdin.on('end', () => stop.abort()).resume()
  say({ ready: true })
  if (task.task === 'send') {
    await sendNumbered(log, { ...task, deadlineMs: 10_000 }, (acks) => say({ acks }), stop.signal)
  } else if (task.task === 'read') {
    const reader = log.reader(task)
    while (!stop.signal.aborted) {
      const records = await reader.next({ records: 1_000, bytes: 1e6 }, stop.signal)
      if (records.length > 0) say({ offsets: records.map((record) => record.offset), atMs: Date.now() })
    }
  } else {
    const member = await log.join({
      group: task.group,
      topics: [task.topic],
      assigned: (partition) => say({ assigned: partition }),
      revoked: async (partition) => say({ revoked: partition }),
      lost: (partition) => say({ lost: partition }),
    })
    await new Promise((resolve) => stop.signal.addEventListener('abort', resolve))
    await member.leave()
  }
  await log.close()
}

await run(JSON.parse(process.argv[2]!) as Task)
