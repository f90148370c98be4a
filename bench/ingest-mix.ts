/**
 * The raw events of bench/ingest.ts, of 1.2 kB each. Every event names another known person, so that nothing is found in
 * memory because the event before asked for it: the worst case for caches, ours and those of Postgres.
 */
import { encodeRawHeader, partitionOf, TOPICS, uuidV7 } from '../src/event/index.ts'
import type { LogRecord } from '../src/log/index.ts'
import { plainHeader } from '../test/support/raw-header.ts'

export const MIXES = ['usual', 'personless', 'anonymous', 'merges', 'hot', 'one'] as const
export type Mix = (typeof MIXES)[number]

/** Distinct ids of the hot person. */
export const HOT_IDS = 1_000
const EVENT_BYTES = 1_200

export type MixOptions = {
  mix: Mix
  persons: number
  partitions: number
  /** In the names of new ids, so that they are new in each run. */
  run: string
}

export function rawRecord({ mix, persons, partitions, run }: MixOptions, index: number): LogRecord {
  const now = Date.now()
  const uuid = uuidV7(now)
  const isPersonless = mix === 'personless' || mix === 'anonymous'
  const identify = !isPersonless && index % 100 === 1
  const personless = (isPersonless || index % 5 === 0) && !identify
  const distinctId = distinctIdOf(mix, index, persons, run)
  const properties: Record<string, unknown> = {
    index,
    $current_url: 'https://example.com/pricing',
    $lib: 'web',
    filler: '',
  }
  if (index % 10 < 3) properties.$set = { visits: index }
  // 98 events ago somebody came who was not known before.
  if (identify) properties.$anon_distinct_id = `${mix === 'merges' ? 'new' : 'anon'}-${run}-${index - 98}`
  if (personless) properties.$process_person_profile = false
  const body = { uuid, event: identify ? '$identify' : '$pageview', distinct_id: distinctId, properties }
  properties.filler = 'x'.repeat(Math.max(0, EVENT_BYTES - JSON.stringify(body).length))
  const key = personless
    ? ({ kind: 'personless', token: 'bench', uuid } as const)
    : ({ kind: 'distinctId', token: 'bench', distinctId } as const)
  const header = encodeRawHeader(
    plainHeader({
      token: 'bench',
      distinctId,
      event: body.event,
      uuid,
      timestampMs: now,
      sentAtMs: now,
      ip: '127.0.0.1',
      userAgent: 'bench',
      sdk: 'web/1',
      personProcessing: personless ? 'off' : 'on',
    }),
  )
  return {
    topic: TOPICS.raw,
    partition: partitionOf(key, partitions),
    header,
    value: Buffer.from(JSON.stringify(body)),
  }
}

function distinctIdOf(mix: Mix, index: number, persons: number, run: string): string {
  if (mix === 'one') return 'known-0'
  if (mix === 'anonymous') return `anonymous-${run}-${index}`
  if (index % 20 === 3) return `new-${run}-${index}`
  if (mix === 'hot' && index % 2 === 0) return `hot-${index % HOT_IDS}`
  return `known-${(index * 7919) % persons}`
}
