/**
 * One chunk of dead letters on its way to a raw topic. In: letters of one raw partition, in order. Out: how many of them go
 * together, where they go, and what became of each: a letter that the log refuses never keeps its neighbours back.
 */
import { isRejected, TOPICS } from '../event/index.ts'
import type { Producer, SendRecord, TopicState } from '../log/index.ts'
import type { Change, Job, JobLetter } from './jobs.ts'
import type { RawAgain } from './raw-again.ts'

const CHUNK_BYTES_MAX = 1 << 20

/** The lane that it came through, or the main one when that topic was made anew since. */
export function topicFor({ logId }: JobLetter, topics: readonly TopicState[]): TopicState {
  return topics.find((topic) => topic.logId === logId) ?? topics.find(({ name }) => name === TOPICS.raw)!
}

/** The first of them that fit into a chunk and into a second of the job's rate, at least one. */
export function within(letters: readonly JobLetter[], { eventsPerSecond }: Job): JobLetter[] {
  let bytes = 0
  const fitting = letters.findIndex((letter, i) => {
    bytes += letter.bytes
    return i > 0 && (bytes > CHUNK_BYTES_MAX || i >= eventsPerSecond)
  })
  return fitting < 0 ? [...letters] : letters.slice(0, fitting)
}

export function sizeTrouble({ header, value }: RawAgain, bytesMax: number): string | undefined {
  const bytes = header.length + value.length
  return bytes <= bytesMax ? undefined : `its raw record would have ${bytes} bytes; the log takes ${bytesMax}`
}

export type Sendable = { letter: JobLetter; record: SendRecord }

/** All at once; one by one when the log refuses one of them, so that its neighbours go on. */
export async function send(producer: Producer, letters: readonly Sendable[]): Promise<[JobLetter, Change][]> {
  if (letters.length === 0) return []
  try {
    const positions = await producer.send(letters.map(({ record }) => record))
    return letters.map(({ letter }, i) => [letter, { state: 'replayed', place: positions[i]! }])
  } catch (error) {
    if (!isRejected(error)) throw error
    if (letters.length === 1) return [[letters[0]!.letter, { state: 'failed', detail: sentenceOf(error) }]]
  }
  const changes: [JobLetter, Change][] = []
  for (const letter of letters) changes.push(...(await send(producer, [letter])))
  return changes
}

export function sentenceOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
