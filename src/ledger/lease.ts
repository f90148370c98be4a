/**
 * Which process does the work of the ledger that one is enough for, such as the running audit. A lease in Postgres, by
 * its clock: whoever holds it takes it again each time; when that stops, another process has it after 5 minutes. Two at
 * once would do the same work twice, and nothing wrong.
 */
import { randomUUID } from 'node:crypto'
import { guardState, type Sql } from '../catalog/index.ts'

const LEASE_S = 300

export class Lease {
  private readonly holder = randomUUID()

  constructor(private readonly sql: Sql) {}

  /** True when it is this process's turn. */
  async take(): Promise<boolean> {
    const rows = await guardState(
      'take the lease of the ledger',
      () => this.sql`
      INSERT INTO ledger_lease AS l (holder, until) VALUES (${this.holder}, now() + ${LEASE_S} * interval '1 s')
      ON CONFLICT (only_one) DO UPDATE SET holder = excluded.holder, until = excluded.until
      WHERE l.holder = excluded.holder OR l.until < now()
      RETURNING holder`,
    )
    return rows.length > 0
  }

  /** Lets another process have it at once. */
  async give(): Promise<void> {
    await guardState(
      'give the lease of the ledger',
      () => this.sql`DELETE FROM ledger_lease WHERE holder = ${this.holder}`,
    )
  }
}
