/**
 * What is captured in a fault test of ingest: families of distinct ids whose events go to all partitions and both lanes
 * and meet on the same persons, copies, and events that end as drops and dead letters.
 *
 * Made so that what must come of it does not depend on how partitions are interleaved: an id writes properties of its
 * own name only (`<id>:<key>`; `shared` may be any last word), an anonymous id is joined by one user, two users only by
 * a dangerous merge, a family keeps to one lane, and all its events have one time.
 */

import {
  encodeRawHeader,
  type PartitionKey,
  partitionOf,
  type RawHeader,
  REPORT_EVENT,
  TOPICS,
  uuidV7,
} from '../../../src/event/index.ts'
import type { LogRecord } from '../../../src/log/index.ts'
import { plainHeader } from '../../support/raw-header.ts'

export const TOKEN = 'phc_fault'
/** With its properties such a row does not fit into a record of topic `events`; see rig.ts. */
export const EVENT_BYTES_TOO_LARGE = 80_000

const FAMILIES_AT_ONCE = 6
const FAMILY_EVENTS_MAX = 120
const ANONS_MAX = 6
const RECENT_MAX = 100
const HISTORICAL_EVERY = 5
const KEYS = 3

type Family = {
  users: string[]
  /** Each belongs to one user: the first to the first, and so on in turn. */
  anons: string[]
  group: string
  historical: boolean
  timestampMs: number
  left: number
}

type Event = {
  name: string
  distinctId: string
  historical: boolean
  body: object | string
  header?: Partial<RawHeader>
  key?: PartitionKey
}

type Told = { record: LogRecord; header: RawHeader; body: object | string; plain: boolean }

export class Story {
  private readonly families: Family[] = []
  private readonly recent: Told[] = []
  private born = 0
  private serial = 0
  private poisons = 0

  constructor(
    private readonly partitions: number,
    private readonly random: () => number,
  ) {}

  /** The next record of a raw topic. */
  next(): LogRecord {
    const family = this.family()
    family.left--
    const weight = this.random() * 100
    if (weight < 6) return this.copy() ?? this.page(family)
    if (weight < 7) return this.reuse() ?? this.page(family)
    if (weight < 10) return this.poison(family)
    if (weight < 16) return this.personless(family)
    if (weight < 28) return this.join(family)
    if (weight < 33) return this.groupIdentify(family)
    if (weight < 60) return this.update(family)
    return this.page(family)
  }

  /** A user with more ids than a merge moves at once, and its merge into another one. */
  crowd(): LogRecord[] {
    const family = this.bear(false)
    const [user, other] = [`crowd-${this.born}`, `crowd-${this.born}-other`]
    const told = (name: string, distinctId: string, alias: string) =>
      this.tell({ name, distinctId, historical: false, body: { properties: { alias } } }, family)
    const aliases = Array.from({ length: 130 }, (_, i) => told('$create_alias', user, `${user}-a${i}`))
    return [...aliases, told('$merge_dangerously', other, user)]
  }

  /** An event with properties for the person of `distinctId`, in the live lane. */
  set(distinctId: string, properties: object): LogRecord {
    const event = { name: '$set', distinctId, historical: false, body: { $set: properties } }
    return this.tell(event, { timestampMs: Date.now() })
  }

  private family(): Family {
    const at = Math.floor(this.random() * FAMILIES_AT_ONCE)
    const family = this.families[at]
    if (family && family.left > 0) return family
    const next = this.bear(++this.born % HISTORICAL_EVERY === 0)
    this.families[at] = next
    return next
  }

  private bear(historical: boolean): Family {
    const name = `f${this.born}`
    const users = this.random() < 0.5 ? [`${name}-u`, `${name}-v`] : [`${name}-u`]
    const count = 1 + Math.floor(this.random() * ANONS_MAX)
    return {
      users,
      anons: Array.from({ length: count }, (_, i) => `${name}-a${i}`),
      group: `${name}-g`,
      historical,
      timestampMs: Date.now(),
      left: Math.ceil(this.random() * FAMILY_EVENTS_MAX),
    }
  }

  private one<T>(list: readonly T[]): T {
    return list[Math.floor(this.random() * list.length)]!
  }

  private member({ users, anons }: Family): string {
    return this.random() < 0.5 ? this.one(users) : this.one(anons)
  }

  private page(family: Family): LogRecord {
    const distinctId = this.member(family)
    const grouped = this.random() < 0.2
    const plain = !grouped && this.random() < 0.3
    const properties = {
      path: `/${this.serial}`,
      ...(grouped ? { $groups: { company: family.group } } : {}),
      ...(plain ? {} : { $set: { [`${distinctId}:seq`]: this.serial } }),
    }
    return this.tell({ ...this.of(family, distinctId), name: 'page', body: { properties } }, family, plain)
  }

  private update(family: Family): LogRecord {
    const distinctId = this.member(family)
    const own = () => `${distinctId}:k${Math.floor(this.random() * KEYS)}`
    const body = {
      $set: {
        [`${distinctId}:seq`]: this.serial,
        [own()]: this.serial,
        ...(this.random() < 0.3 ? { shared: `${distinctId}/${this.serial}` } : {}),
      },
      properties: {
        ...(this.random() < 0.4 ? { $set_once: { [own()]: -this.serial } } : {}),
        ...(this.random() < 0.3 ? { $unset: [own()] } : {}),
      },
    }
    return this.tell({ ...this.of(family, distinctId), name: '$set', body }, family)
  }

  private join(family: Family): LogRecord {
    const { users, anons } = family
    const at = Math.floor(this.random() * users.length)
    const distinctId = users[at]!
    const mine = anons.filter((_, i) => i % users.length === at)
    const told = (name: string, properties: object) =>
      this.tell({ ...this.of(family, distinctId), name, body: { properties } }, family)
    const other = users[1 - at]
    if (other !== undefined && this.random() < 0.2) return told('$merge_dangerously', { alias: other })
    if (mine.length === 0 || this.random() < 0.1)
      return told('$identify', {
        $anon_distinct_id: 'anonymous',
        $set: { [`${distinctId}:seq`]: this.serial },
      })
    const anon = this.one(mine)
    if (this.random() < 0.3) return told('$create_alias', { alias: anon })
    return told('$identify', { $anon_distinct_id: anon, $set: { [`${distinctId}:seq`]: this.serial } })
  }

  private personless(family: Family): LogRecord {
    const distinctId = this.member(family)
    const uuid = uuidV7(Date.now())
    return this.tell(
      {
        ...this.of(family, distinctId),
        name: 'page',
        body: { properties: { $set: { [`${distinctId}:seq`]: -1 } } },
        header: { uuid, personProcessing: 'off' },
        key: { kind: 'personless', token: TOKEN, uuid },
      },
      family,
    )
  }

  private groupIdentify(family: Family): LogRecord {
    const distinctId = this.member(family)
    const $group_set = { [`${distinctId}:k${Math.floor(this.random() * KEYS)}`]: this.serial }
    const properties = { $group_type: 'company', $group_key: family.group, $group_set }
    return this.tell({ ...this.of(family, distinctId), name: '$groupidentify', body: { properties } }, family)
  }

  /** In the lane of the first or, when it says nothing of anybody, in the other one. */
  private copy(): LogRecord | undefined {
    const told = this.recent.length > 0 ? this.one(this.recent) : undefined
    if (!told?.plain || this.random() < 0.5) return told?.record
    const topic = told.record.topic === TOPICS.raw ? TOPICS.rawHistorical : TOPICS.raw
    return { ...told.record, topic }
  }

  /** Another event under a uuid that was used. */
  private reuse(): LogRecord | undefined {
    const told = this.recent.find(({ header }) => header.personProcessing === 'on' && header.event === 'page')
    if (!told) return undefined
    const { header, record } = told
    const value = Buffer.from(JSON.stringify({ properties: { reuse: this.serial } }))
    return { ...record, header: encodeRawHeader({ ...header, event: `reuse-${this.serial++}` }), value }
  }

  private poison(family: Family): LogRecord {
    const distinctId = this.member(family)
    const event: Event = {
      ...this.of(family, distinctId),
      name: 'page',
      body: { properties: { $set: { [`${distinctId}:poison`]: this.serial } } },
    }
    const told = (more: Partial<Event>) => this.tell({ ...event, ...more }, family)
    switch (this.poisons++ % 10) {
      case 0:
        return { ...told({}), header: Buffer.from(`no header ${this.serial}`) }
      case 1:
        return told({ body: `{"properties": ${this.serial}` })
      case 2:
        return told({ body: '[1]' })
      case 3:
        return told({ header: { token: 'phc_nobody' } })
      case 4:
        return told({
          name: REPORT_EVENT,
          body: { type: 'events_rejected', reason: 'x', count: 1 },
          header: { disposition: 'report' },
        })
      case 5:
        return told({ name: REPORT_EVENT, body: 'nothing', header: { disposition: 'report' } })
      case 6:
        return told({ header: { disposition: 'deadLetter' } })
      case 7:
        return told({ distinctId: '' })
      case 8:
        return told({ name: '$identify', header: { personProcessing: 'off' } })
      default:
        return told({ body: { properties: { filler: 'x'.repeat(EVENT_BYTES_TOO_LARGE) } } })
    }
  }

  private of({ historical }: Family, distinctId: string): Omit<Event, 'name' | 'body'> {
    return { distinctId, historical }
  }

  private tell(event: Event, { timestampMs }: { timestampMs: number }, plain = false): LogRecord {
    this.serial++
    const { name, distinctId, historical, body, key } = event
    const header: RawHeader = plainHeader({
      token: TOKEN,
      distinctId,
      event: name,
      uuid: uuidV7(Date.now()),
      timestampMs,
      nowMs: Date.now(),
      ...event.header,
    })
    const record: LogRecord = {
      topic: historical ? TOPICS.rawHistorical : TOPICS.raw,
      partition: partitionOf(key ?? { kind: 'distinctId', token: TOKEN, distinctId }, this.partitions),
      header: encodeRawHeader(header),
      value: Buffer.from(typeof body === 'string' ? body : JSON.stringify(body)),
    }
    // Large ones are not told twice: they would be most of the log.
    if (record.value.length < EVENT_BYTES_TOO_LARGE) {
      this.recent.push({ record, header, body, plain })
      if (this.recent.length > RECENT_MAX) this.recent.shift()
    }
    return record
  }
}
