/** Topic `events` as delivery needs to know it: which one it is, and where each of its partitions begins. */
import { TOPICS } from '../event/index.ts'
import type { Log } from '../log/index.ts'
import { deliverError } from './errors.ts'

export type EventsTopic = { logId: string; partitions: number; starts: readonly number[] }

/** Topic `events` as it is now. Throws HR_DELIVER_NO_TOPIC. */
export async function eventsTopic(log: Log): Promise<EventsTopic> {
  const [events, deliveries] = await Promise.all([
    log.describe([TOPICS.events]),
    log.describe([TOPICS.deliveries]),
  ])
  if (!events[0] || !deliveries[0])
    throw deliverError(
      'HR_DELIVER_NO_TOPIC',
      `the log has no topic ${events[0] ? TOPICS.deliveries : TOPICS.events}`,
    )
  const { logId, partitions } = events[0]
  const starts: number[] = []
  for (let partition = 0; partition < partitions; partition++)
    starts.push((await log.bounds(TOPICS.events, partition)).start)
  return { logId, partitions, starts }
}
