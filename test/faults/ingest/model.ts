/**
 * What must come of a raw log, told by a second opinion: simple rules over the stories of story.ts, written without the
 * code of ingest. In: every raw record, each lane of a partition in its order. Out: the end state of each record, who
 * is one person with whom, what the last word on each property was, and what each event has to show of its own id.
 */
import { decodeRawHeader, type RawHeader } from '../../../src/event/index.ts'
import { EVENT_BYTES_TOO_LARGE, TOKEN } from './story.ts'

export type RawRecord = {
  logId: string
  topic: string
  partition: number
  offset: number
  header: Uint8Array
  value: Uint8Array
}

export type EndState = 'stored' | 'duplicate' | 'dropped' | 'dead_lettered'

export type Expected = {
  record: RawRecord
  header: RawHeader | undefined
  state: EndState
  /** As in the lists of reasons; empty for stored and duplicate. */
  reason: string
  /** The claim on being the one that is stored: project, uuid, event and distinct id. */
  claim: string | undefined
  /** Of a stored event with a person: the properties that its own id has written, as they stand after it. */
  shows: Properties | undefined
}

/** Of an id, by their names. */
export type Properties = Readonly<Record<string, unknown>>

export type ModelPerson = {
  ids: Set<string>
  isIdentified: boolean
  createdAtMs: number
  /** Without `shared` and `$creator_event_uuid`. */
  properties: Properties
  /** The last words on `shared`, one per id. */
  shared: Set<unknown>
  eventUuids: Set<string>
}

/** `<log id>/<partition>/<offset>`. */
export function placeOf({ logId, partition, offset }: Pick<RawRecord, 'logId' | 'partition' | 'offset'>) {
  return `${logId}/${partition}/${offset}`
}

type Json = Record<string, unknown>
type Known = {
  joined: string
  own: Properties
  shared: unknown
  timestampMs: number
  eventUuids: string[]
  isIdentified: boolean
}

const MERGES: Readonly<Record<string, string>> = {
  $identify: '$anon_distinct_id',
  $create_alias: 'alias',
  $merge_dangerously: 'alias',
}
const PLACEHOLDER = 'anonymous'

export class Model {
  readonly expected = new Map<string, Expected>()
  /** Claims of which both lanes hold or held a copy: one of the first copies is stored, whichever came first. */
  readonly eitherLane = new Map<string, Expected[]>()
  /** Type and key → properties. */
  readonly groups = new Map<string, Properties>()
  private readonly claims = new Map<string, Map<string, Expected>>()
  /** Claim → topic. */
  private readonly lost = new Map<string, string>()
  private readonly ids = new Map<string, Known>()

  /**
   * A record that was lost with its topic before anybody decided it; told before all others. A copy of it in the other
   * lane is stored then, and has no one order with the events of its id, any more than one whose original is there.
   */
  lose(record: RawRecord): void {
    const { claim } = this.judge(record)
    if (claim !== undefined) this.lost.set(claim, record.topic)
  }

  /** Records of one partition of one topic must come in their order. */
  take(record: RawRecord): void {
    const expected = this.judge(record)
    this.expected.set(placeOf(record), expected)
    const { claim, header, state, reason } = expected
    if (claim !== undefined) {
      const firsts = this.claims.get(claim) ?? new Map<string, Expected>()
      this.claims.set(claim, firsts)
      if (firsts.has(record.topic)) {
        expected.state = 'duplicate'
        expected.reason = ''
        return
      }
      firsts.set(record.topic, expected)
      const lostFrom = this.lost.get(claim) ?? record.topic
      if (firsts.size > 1 || lostFrom !== record.topic) this.eitherLane.set(claim, [...firsts.values()])
    }
    const hasEffect = state === 'stored' || reason === 'event_too_large'
    if (header && hasEffect && header.personProcessing === 'on')
      expected.shows = this.effect(header, JSON.parse(Buffer.from(record.value).toString()) as Json)
  }

  /** Who is one person in the end. */
  persons(): ModelPerson[] {
    const persons = new Map<string, ModelPerson>()
    for (const [id, known] of this.ids) {
      const root = this.root(id)
      const person = persons.get(root) ?? {
        ids: new Set(),
        isIdentified: false,
        createdAtMs: known.timestampMs,
        properties: {},
        shared: new Set(),
        eventUuids: new Set(),
      }
      persons.set(root, person)
      person.ids.add(id)
      person.isIdentified ||= known.isIdentified
      person.createdAtMs = Math.min(person.createdAtMs, known.timestampMs)
      person.properties = { ...person.properties, ...known.own }
      if (known.shared !== undefined) person.shared.add(known.shared)
      for (const uuid of known.eventUuids) person.eventUuids.add(uuid)
    }
    return [...persons.values()]
  }

  private judge(record: RawRecord): Expected {
    const judged = (state: EndState, reason: string, header?: RawHeader, claim?: string): Expected => ({
      record,
      header,
      state,
      reason,
      claim,
      shows: undefined,
    })
    let header: RawHeader
    try {
      header = decodeRawHeader(record.header)
    } catch {
      return judged('dead_lettered', 'unreadable_record')
    }
    if (header.token !== TOKEN) return judged('dropped', 'unknown_token', header)
    const body = readObject(record.value)
    if (!body) return judged('dead_lettered', 'unreadable_event', header)
    if (header.disposition === 'report') return judged('dropped', 'capture_report', header)
    const claim = JSON.stringify([header.uuid, header.event, header.distinctId])
    if (header.disposition === 'deadLetter') return judged('dead_lettered', 'restricted', header, claim)
    if (header.distinctId === '') return judged('dropped', 'illegal_distinct_id', header, claim)
    if (header.event in MERGES && header.personProcessing === 'off')
      return judged('dropped', 'identify_without_person_processing', header, claim)
    if (record.value.length > EVENT_BYTES_TOO_LARGE)
      return judged('dead_lettered', 'event_too_large', header, claim)
    return judged('stored', '', header, claim)
  }

  private effect(header: RawHeader, body: Json): Properties {
    const { distinctId, event, timestampMs, uuid } = header
    const properties = (body.properties ?? {}) as Json
    const known = this.known(distinctId, timestampMs)
    known.eventUuids.push(uuid)
    const otherId = properties[MERGES[event] ?? ''] as string | undefined
    if (otherId !== undefined && otherId !== PLACEHOLDER) {
      this.known(otherId, timestampMs)
      known.isIdentified = true
      this.join(distinctId, otherId)
    }
    if (event === '$groupidentify') this.groupEffect(properties)
    else known.own = this.personEffect(known, properties, body)
    return known.own
  }

  private personEffect(known: Known, properties: Json, body: Json): Properties {
    const set = { ...(properties.$set as Json | undefined), ...(body.$set as Json | undefined) }
    const once = (properties.$set_once ?? {}) as Json
    const unset = (properties.$unset ?? []) as string[]
    if ('shared' in set) known.shared = set.shared
    delete set.shared
    const own: Json = { ...once, ...known.own, ...set }
    for (const key of unset) delete own[key]
    return own
  }

  private groupEffect({ $group_type: type, $group_key: key, $group_set: set }: Json): void {
    const group = `${type}/${key}`
    this.groups.set(group, { ...this.groups.get(group), ...(set as Json) })
  }

  private known(id: string, timestampMs: number): Known {
    let known = this.ids.get(id)
    if (!known) {
      known = { joined: id, own: {}, shared: undefined, timestampMs, eventUuids: [], isIdentified: false }
      this.ids.set(id, known)
    }
    known.timestampMs = Math.min(known.timestampMs, timestampMs)
    return known
  }

  private root(id: string): string {
    let at = id
    for (let next = this.ids.get(at)!.joined; next !== at; next = this.ids.get(at)!.joined) at = next
    return at
  }

  private join(one: string, other: string): void {
    this.ids.get(this.root(other))!.joined = this.root(one)
  }
}

function readObject(value: Uint8Array): Json | undefined {
  try {
    const json = JSON.parse(Buffer.from(value).toString()) as unknown
    return typeof json === 'object' && json !== null && !Array.isArray(json) ? (json as Json) : undefined
  } catch {
    return undefined
  }
}
