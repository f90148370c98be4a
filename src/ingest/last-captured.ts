/**
 * The last events of a project as its transformations would see them: to try a set on what is really sent. In: the raw
 * topics. Out: at most `count` events, oldest first; what cannot be read is left out. Reads the end of each partition,
 * at most READ_MAX records of it, so that a project that sends little may be shown less than it has.
 */
import { ingestionOptionsIn, type Project } from '../catalog/index.ts'
import { RAW_TOPICS } from '../event/index.ts'
import type { Log, StoredRecord } from '../log/index.ts'
import type { TransformEvent } from '../transform/index.ts'
import { withDefaults } from './project-options.ts'
import { parseEvent, parseHeader } from './steps/parse.ts'
import { asGiven } from './transformations.ts'

const READ_MAX = 20_000

export async function lastCaptured(
  log: Log,
  partitions: number,
  project: Project,
  count: number,
): Promise<TransformEvent[]> {
  const found: { appendedMs: number; event: TransformEvent }[] = []
  const { options } = ingestionOptionsIn(project.settings)
  const known = { teamId: project.teamId, options: withDefaults(options) }
  for (const topic of RAW_TOPICS)
    for (let partition = 0; partition < partitions; partition++) {
      const { start, end } = await log.bounds(topic, partition)
      for await (const records of log.read(topic, partition, Math.max(start, end - READ_MAX), end))
        for (const record of records) {
          const event = readOne(record, project.token, known)
          if (event) found.push({ appendedMs: record.appendedMs, event })
        }
      found.sort((a, b) => a.appendedMs - b.appendedMs)
      found.splice(0, Math.max(0, found.length - count))
    }
  return found.map(({ event }) => event)
}

function readOne(
  record: StoredRecord,
  token: string,
  project: Parameters<typeof parseEvent>[1],
): TransformEvent | undefined {
  const header = parseHeader(record.header)
  if (header.kind !== 'pass' || header.value.token !== token || header.value.disposition === 'report')
    return undefined
  const event = parseEvent(header.value, project, record.value)
  return event.kind === 'pass' ? asGiven(event.value) : undefined
}
