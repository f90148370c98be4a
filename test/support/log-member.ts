/**
 * A group member in a process of its own, for tests that pause or kill it. Arguments: brokers, group, topic, session
 * time-out. Tells on standard output what happens to it, one JSON line each: `{"event":"assigned","partition":0}`.
 */
import { openKafkaLog } from '../../src/log/index.ts'

const [brokers, group, topic, sessionTimeoutMs] = process.argv.slice(2)
const tell = (event: string, partition?: number) => console.log(JSON.stringify({ event, partition }))

const log = await openKafkaLog({
  brokers: brokers!.split(','),
  clientId: 'member-child',
  sessionTimeoutMs: Number(sessionTimeoutMs),
})
const member = await log.join({
  group: group!,
  topics: [topic!],
  assigned: (partition) => tell('assigned', partition),
  revoked: async (partition) => tell('revoked', partition),
  lost: (partition) => tell('lost', partition),
})
tell('joined')
for await (const line of console) {
  if (line.trim() === 'leave') {
    await member.leave()
    break
  }
  // Commits offset n to the partition given.
  const [partition, offset] = line.split(' ').map(Number)
  const outcome = await member.commit([{ topic: topic!, partition: partition!, offset: offset! }]).then(
    () => 'committed',
    (error) => error.code,
  )
  tell(outcome, partition)
}
await log.close()
