/** One event through the steps as a batch has it, for tables of rules. */
import { plainHeader } from '../../../test/support/raw-header.ts'
import type { IngestionOptions } from '../../catalog/index.ts'
import { encodeRawHeader, type RawHeader } from '../../event/index.ts'
import type { StoredRecord } from '../../log/index.ts'
import { finishBatch, type Judge, judgeBatch, openBatch, type Slot } from '../batch.ts'
import { factsAt } from '../cookieless/cookieless.fixture.ts'
import { judge } from '../cookieless/index.ts'
import { withDefaults } from '../project-options.ts'

export const NOW_MS = Date.UTC(2026, 10, 22, 12)

export const HEADER: RawHeader = plainHeader({
  token: 'token',
  distinctId: 'd',
  event: '$pageview',
  uuid: '018f4b2e-0000-7000-8000-000000000001',
  timestampMs: NOW_MS,
})

export const everyoneIsFirst: Judge = (requests) =>
  requests.map(() => ({ kind: 'first', holder: undefined, uuidReused: false }))

/** `value`: JSON text, or what becomes JSON. */
export function rawRecord(value: unknown, header: Partial<RawHeader> = {}, offset = 0): StoredRecord {
  return {
    offset,
    appendedMs: NOW_MS,
    header: Buffer.from(encodeRawHeader({ ...HEADER, ...header })),
    value: Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)),
  }
}

export function throughSteps(records: readonly StoredRecord[], options: IngestionOptions = {}): Slot[] {
  const { slots } = openBatch(records)
  const projects = new Map([['token', { teamId: 7, options: withDefaults(options) }]])
  const facts = factsAt(NOW_MS)
  const { waiting } = judgeBatch(
    slots,
    { logId: '11111111-1111-4111-8111-111111111111' },
    projects,
    everyoneIsFirst,
    (event) => judge(event, facts),
  )
  finishBatch(slots, waiting, new Map())
  return slots
}

export function throughStepsAlone(
  value: unknown,
  header: Partial<RawHeader> = {},
  options: IngestionOptions = {},
): Slot {
  return throughSteps([rawRecord(value, header)], options)[0]!
}

export function typesOf({ warnings }: { warnings: Slot['warnings'] }): string[] {
  return warnings.map(({ type }) => type)
}
