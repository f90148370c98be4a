/**
 * Destinations in Postgres: what verbs write and deliver processes read. A change gets a number above all others, by which
 * processes find what they have not seen. Creating one writes its cursors in the same transaction, each at the place of
 * the shared reader, so no event is before and behind it at once. Decides nothing else.
 */
import { guardState, type Sql, type Transaction, transaction } from '../catalog/index.ts'
import { ensureFences, type Start, writeCursors } from './cursors.ts'
import {
  type Destination,
  type DestinationConfig,
  type DestinationState,
  readConfig,
  showConfig,
} from './destination.ts'
import { deliverError } from './errors.ts'
import type { EventsTopic } from './events-topic.ts'
import type { SecretBox } from './secrets.ts'

type Row = {
  id: string
  team_id: number
  name: string
  kind: string
  config: unknown
  secrets: string | null
  state: DestinationState
  says: string
  replay_of: string | null
  change: number
}

export type NewDestination = {
  teamId: number
  name: string
  kind: string
  config: DestinationConfig
  secrets: Record<string, string>
  replayOf?: string
  paused?: boolean
}

export class DestinationStore {
  constructor(
    readonly sql: Sql,
    private readonly box: SecretBox,
  ) {}

  /** Stores it with one cursor per partition. `starts` says where they begin; absent: where the shared reader is. */
  async create(wanted: NewDestination, topic: EventsTopic, starts?: readonly Start[]): Promise<Destination> {
    const id = Bun.randomUUIDv7()
    const secrets = Object.keys(wanted.secrets).length > 0 ? await this.box.seal(id, wanted.secrets) : null
    const config = JSON.stringify(showConfig(wanted.config))
    await guardState('creating a destination', () =>
      transaction(this.sql, async (tx) => {
        await lockChanges(tx)
        const made = await tx`
          INSERT INTO destination (id, team_id, name, kind, config, secrets, replay_of, state)
          VALUES (${id}, ${wanted.teamId}, ${wanted.name}, ${wanted.kind}, ${config}::text::jsonb, ${secrets},
            ${wanted.replayOf ?? null}, ${wanted.paused === true ? 'paused' : 'active'})
          ON CONFLICT DO NOTHING RETURNING id`
        if (made.length === 0)
          throw deliverError(
            'HR_DESTINATION_EXISTS',
            `there is already a destination with the name "${wanted.name}" in this project`,
          )
        await ensureFences(tx, topic)
        await writeCursors(tx, id, topic.logId, starts)
      }),
    )
    return (await this.find(wanted.teamId, id))!
  }

  /** Those of a project, or all; without the deleted ones. */
  async list(teamId?: number): Promise<Destination[]> {
    const rows = await guardState(
      'listing destinations',
      () => this.sql<Row[]>`
        SELECT id, team_id, name, kind, config, secrets, state, says, replay_of, change FROM destination
        WHERE state <> 'deleted' AND (${teamId ?? null}::bigint IS NULL OR team_id = ${teamId ?? null}) ORDER BY created_at`,
    )
    return Promise.all(rows.map((row) => this.read(row)))
  }

  /** By name or id. Throws HR_DESTINATION_NOT_FOUND. */
  async get(teamId: number, nameOrId: string): Promise<Destination> {
    const found = await this.find(teamId, nameOrId)
    if (found) return found
    throw deliverError(
      'HR_DESTINATION_NOT_FOUND',
      `the project has no destination "${nameOrId}"; \`headrace destination list\` shows all`,
    )
  }

  private async find(teamId: number, nameOrId: string): Promise<Destination | undefined> {
    const [row] = await guardState(
      'reading a destination',
      () => this.sql<Row[]>`
        SELECT id, team_id, name, kind, config, secrets, state, says, replay_of, change FROM destination
        WHERE team_id = ${teamId} AND state <> 'deleted' AND (name = ${nameOrId} OR id::text = ${nameOrId})
        ORDER BY replay_of NULLS FIRST LIMIT 1`,
    )
    return row ? this.read(row) : undefined
  }

  /** What changed above number `above`, deleted ones too, and the highest number of them. */
  async changes(above: number): Promise<{ destinations: Destination[]; highest: number }> {
    const rows = await guardState(
      'reading destinations',
      () => this.sql<Row[]>`
        SELECT id, team_id, name, kind, config, secrets, state, says, replay_of, change FROM destination
        WHERE change > ${above} ORDER BY change`,
    )
    const destinations = await Promise.all(rows.map((row) => this.read(row)))
    return { destinations, highest: rows.at(-1)?.change ?? above }
  }

  async update(
    { id }: Destination,
    { config, secrets }: { config: DestinationConfig; secrets: Record<string, string> },
  ): Promise<void> {
    const sealed = Object.keys(secrets).length > 0 ? await this.box.seal(id, secrets) : null
    const text = JSON.stringify(showConfig(config))
    await this.change(
      (tx) => tx`
        UPDATE destination SET config = ${text}::text::jsonb, secrets = ${sealed}, change = nextval('destination_change'),
          changed_at = now() WHERE id = ${id}`,
    )
  }

  async setState(id: string, state: 'active' | 'paused', says = ''): Promise<void> {
    await this.change(
      (tx) => tx`
        UPDATE destination SET state = ${state}, says = ${says}, change = nextval('destination_change'), changed_at = now()
        WHERE id = ${id} AND state <> 'deleted'`,
    )
  }

  /** Its cursors and what waits to be tried again go with it; rows in ClickHouse stay. */
  async delete(id: string): Promise<void> {
    await this.change(async (tx) => {
      await tx`
        UPDATE destination SET state = 'deleted', secrets = NULL, change = nextval('destination_change'), changed_at = now()
        WHERE id = ${id} OR replay_of = ${id}`
      const gone = tx`SELECT id FROM destination WHERE id = ${id} OR replay_of = ${id}`
      await tx`DELETE FROM delivery_retry WHERE destination_id IN (${gone})`
      await tx`DELETE FROM delivery_cursor WHERE destination_id IN (${gone})`
    })
  }

  /** One at a time, so that numbers become visible in their order: a reader would miss a lower one that commits later. */
  private async change(work: (tx: Transaction) => Promise<unknown>): Promise<void> {
    await guardState('changing a destination', () =>
      transaction(this.sql, async (tx) => {
        await lockChanges(tx)
        await work(tx)
      }),
    )
  }

  private async read(row: Row): Promise<Destination> {
    return {
      id: row.id,
      teamId: row.team_id,
      name: row.name,
      kind: row.kind,
      config: readConfig(row.config),
      secrets: row.secrets === null ? {} : await this.box.open(row.id, row.secrets),
      state: row.state,
      says: row.says,
      replayOf: row.replay_of ?? undefined,
    }
  }
}

const CHANGE_LOCK = 7_251_846_302

async function lockChanges(tx: Transaction): Promise<void> {
  await tx`SELECT pg_advisory_xact_lock(${CHANGE_LOCK})`
}
