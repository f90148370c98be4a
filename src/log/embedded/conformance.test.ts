/** The embedded log keeps the promises of the log; the writing process is killed with SIGKILL. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Ack, type KillableSender, logConformance } from '../conformance.ts'
import { EmbeddedLog } from './embedded-log.ts'
import { startProcess, type TestProcess } from './start-process.fixture.ts'

/** Numbers of one writing process; the next one begins behind them. */
const NUMBERS_PER_PROCESS = 1_000_000

logConformance('embedded log', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'headrace-log-'))
  const senders = new Set<KillableSender>()
  // Small segments, so that the suite crosses their borders.
  const open = async () => new EmbeddedLog({ dir, segmentBytes: 50_000, memberPollMs: 100 })
  return {
    recordBytesMax: 1_000_000,
    open,
    async startSending(topic, partitions) {
      const acks: Ack[] = []
      let started = 0
      const begin = () =>
        startProcess(
          { task: 'send', dir, topic, partitions, from: NUMBERS_PER_PROCESS * started++ },
          (line) => acks.push(...((line.acks as Ack[] | undefined) ?? [])),
        )
      let child: TestProcess = begin()
      const sender: KillableSender = {
        acks,
        async kill() {
          await child.kill()
          child = begin()
        },
        async stop() {
          await child.end()
          senders.delete(sender)
        },
      }
      senders.add(sender)
      return sender
    },
    async retain(log) {
      await (log as EmbeddedLog).retainAll()
    },
    async close() {
      for (const sender of senders) await sender.stop()
      await rm(dir, { recursive: true, force: true })
    },
  }
})
