/**
 * A row of `events` as filters and targets look at it. In: its RowBinary bytes. Nothing is decoded before somebody asks
 * for it, and then once, however many destinations ask: most rows match nothing and cost the reading of their name.
 */
import { ByteReader, EVENTS, type EventRow, formatSource, type Source } from '../event/index.ts'

const UUID_BYTES = 16

export class EventView {
  private decoded: EventRow | undefined
  private nameText: string | undefined
  private parsed: Record<string, unknown> | undefined
  private parsedPerson: Record<string, unknown> | undefined
  private text: string | undefined
  private place: string | undefined

  constructor(
    readonly bytes: Uint8Array,
    readonly source: Source,
    readonly teamId: number,
  ) {}

  /** The event name: second column, behind the uuid. */
  get name(): string {
    this.nameText ??= new ByteReader(this.bytes, UUID_BYTES).text()
    return this.nameText
  }

  get row(): EventRow {
    this.decoded ??= EVENTS.decode(new ByteReader(this.bytes))
    return this.decoded
  }

  get properties(): Record<string, unknown> {
    this.parsed ??= parseObject(this.row.properties)
    return this.parsed
  }

  get personProperties(): Record<string, unknown> {
    this.parsedPerson ??= parseObject(this.row.person_properties)
    return this.parsedPerson
  }

  /** What templates and conditions can name. */
  get fields(): Record<string, unknown> {
    const { row } = this
    return {
      uuid: row.uuid,
      event: row.event,
      distinct_id: row.distinct_id,
      timestamp: new Date(row.timestamp).toISOString(),
      created_at: new Date(row.created_at).toISOString(),
      project_id: row.team_id,
      elements_chain: row.elements_chain,
      properties: this.properties,
      person: { id: row.person_id, properties: this.personProperties },
    }
  }

  /** Its source, as it is written everywhere. */
  get origin(): string {
    this.place ??= formatSource(this.source)
    return this.place
  }

  /** The event as receivers get it: properties are spliced in as they are stored, never parsed for it. */
  get json(): string {
    this.text ??= eventJson(this.row, this.origin)
    return this.text
  }
}

function eventJson(row: EventRow, origin: string): string {
  const groups: string[] = []
  for (let i = 0; i < 5; i++) {
    const text = row[`group${i}_properties` as 'group0_properties']
    if (text !== '' && text !== '{}') groups.push(`"${i}":${text}`)
  }
  const person =
    row.person_mode === 'propertyless'
      ? 'null'
      : `{"id":"${row.person_id}","created_at":"${iso(row.person_created_at)}","properties":${row.person_properties || '{}'}}`
  return `{"uuid":"${row.uuid}","event":${JSON.stringify(row.event)},"distinct_id":${JSON.stringify(row.distinct_id)},"timestamp":"${iso(row.timestamp)}","created_at":"${iso(row.created_at)}","project_id":${row.team_id},"properties":${row.properties || '{}'},"person":${person}${groups.length > 0 ? `,"groups":{${groups.join(',')}}` : ''}${row.elements_chain === '' ? '' : `,"elements_chain":${JSON.stringify(row.elements_chain)}`},"source":"${origin}"}`
}

function iso(ms: number): string {
  return new Date(ms).toISOString()
}

/** Ingest stores objects; a row that came in by another way and holds something else has no properties. */
function parseObject(text: string): Record<string, unknown> {
  if (text === '') return {}
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : {}
  } catch {
    return {}
  }
}
