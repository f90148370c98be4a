/**
 * Where things lie in the folder of an embedded log, and how files are made so that they outlive a power cut.
 * ```
 * topics.lock                               held while a topic is made or deleted
 * topics/<topic>/topic.json                 settings and log id
 * topics/<topic>/<p>/writer.lock            held by the process that writes partition p
 * topics/<topic>/<p>/<base offset>.seg      segments
 * journals/<id>.journal                     commits that may not be durable in their segments yet (commit-journal.ts)
 * journals/settle.lock                      held while the journals of dead processes are settled
 * journals/<id>.damaged                     the last few journals in which damage was found
 * heads/<topic>                             durable ends, one slot per partition (head-file.ts)
 * heads/.<group>                            touched when something changes in the group
 * groups/<group>/members/<member>           held by a live member
 * groups/<group>/leases/<p>                 held by the member that owns partition number p
 * groups/<group>/positions/<topic>@<log id> committed offsets, one slot per partition
 * ```
 */
import { readdirSync, write } from 'node:fs'
import { join } from 'node:path'
import { writeFully } from '../../platform/index.ts'
import { logError } from '../errors.ts'

export { makeDir, syncDir, writeDurably, writeFully } from '../../platform/index.ts'

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$/
const SEGMENT = /^(\d{16})\.seg$/
const JOURNAL = /^(?<id>[0-9a-f-]{36})\.journal$/
const UNNAMED_JOURNAL = /^[0-9a-f-]{36}\.new$/
const DAMAGED_JOURNAL = /^[0-9a-f-]{36}\.damaged$/
/** More is written on another thread, so that a slow disk does not hold up the event loop. */
const WRITE_INLINE_BYTES = 256 * 1024

/** Refuses topic and group names that could not be a file name. */
export function checkName(kind: 'topic' | 'group', name: string): void {
  if (!NAME.test(name))
    throw logError(
      kind === 'topic' ? 'HR_LOG_NO_TOPIC' : 'HR_LOG_WRONG_TOPIC',
      `"${name}" is no ${kind} name; allowed are 1 to 200 of A-Z a-z 0-9 . _ - beginning with a letter or digit`,
    )
}

export class Layout {
  readonly topics: string
  readonly heads: string
  readonly topicsLock: string
  readonly journals: string
  readonly settleLock: string

  constructor(readonly dir: string) {
    this.topics = join(dir, 'topics')
    this.heads = join(dir, 'heads')
    this.topicsLock = join(dir, 'topics.lock')
    this.journals = join(dir, 'journals')
    this.settleLock = join(this.journals, 'settle.lock')
  }

  topic(topic: string): string {
    return join(this.topics, topic)
  }

  partition(topic: string, partition: number): string {
    return join(this.topics, topic, String(partition))
  }

  writerLock(topic: string, partition: number): string {
    return join(this.partition(topic, partition), 'writer.lock')
  }

  segment(topic: string, partition: number, base: number): string {
    return join(this.partition(topic, partition), segmentName(base))
  }

  journal(id: string): string {
    return join(this.journals, `${id}.journal`)
  }

  /** A journal on its way: not a name that anybody reads entries from. */
  unnamedJournal(id: string): string {
    return join(this.journals, `${id}.new`)
  }

  damagedJournal(id: string): string {
    return join(this.journals, `${id}.damaged`)
  }

  head(topic: string): string {
    return join(this.heads, topic)
  }

  groups(): string {
    return join(this.dir, 'groups')
  }

  group(group: string): string {
    return join(this.dir, 'groups', group)
  }

  positions(group: string, topic: string, logId: string): string {
    return join(this.group(group), 'positions', `${topic}@${logId}`)
  }
}

export function segmentName(base: number): string {
  return `${String(base).padStart(16, '0')}.seg`
}

/** Base offsets of the segments in the folder of a partition, rising. */
export function segmentBases(partitionDir: string): number[] {
  const bases: number[] = []
  for (const name of readdirSync(partitionDir)) {
    const match = SEGMENT.exec(name)
    if (match) bases.push(Number(match[1]))
  }
  return bases.sort((a, b) => a - b)
}

/** What lies in the folder of the journals: ids, and names of journals that were never finished, or are damaged. */
export function journalsIn(layout: Layout): { ids: string[]; unnamed: string[]; damaged: string[] } {
  let names: string[]
  try {
    names = readdirSync(layout.journals)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { ids: [], unnamed: [], damaged: [] }
    throw error
  }
  return {
    ids: names.flatMap((name) => JOURNAL.exec(name)?.groups?.id ?? []),
    unnamed: names.filter((name) => UNNAMED_JOURNAL.test(name)),
    damaged: names.filter((name) => DAMAGED_JOURNAL.test(name)),
  }
}

/** Writes `bytes[from, to)` at `position` of the file. */
export async function writeBytes(
  fd: number,
  bytes: Buffer,
  from: number,
  to: number,
  position: number,
): Promise<void> {
  if (to - from <= WRITE_INLINE_BYTES) {
    writeFully(fd, bytes.subarray(from, to), position)
    return
  }
  for (let at = from; at < to; )
    at += await new Promise<number>((resolve, reject) =>
      write(fd, bytes, at, to - at, position + at - from, (error, count) =>
        error ? reject(error) : resolve(count),
      ),
    )
}
