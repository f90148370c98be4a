/** One made-up event to a destination, now and without any trace: what `headrace destination test` does. */
import { deliveryUuid, EVENTS, type EventRow, NIL_UUID } from '../event/index.ts'
import type { Destination } from './destination.ts'
import { EventView } from './event-view.ts'
import { AddressRules } from './http/address.ts'
import { HttpClient } from './http/client.ts'
import { Runtime } from './runtime.ts'
import type { Verdict } from './targets/target.ts'

export async function tryDestination(destination: Destination, allow: string): Promise<Verdict> {
  const http = new HttpClient({ rules: AddressRules.read(allow) })
  const runtime = new Runtime(destination, { http, clock: Date.now, share: () => 1, fault: () => {} })
  const view = sampleEvent(destination.teamId)
  const id = deliveryUuid(runtime.idsOf, `${view.origin}/${Date.now()}`)
  try {
    const [verdict] = await runtime.target.send([{ id, view }], new AbortController().signal)
    return verdict!
  } finally {
    await runtime.target.close?.()
  }
}

function sampleEvent(teamId: number): EventView {
  const nowMs = Date.now()
  const row: EventRow = {
    uuid: Bun.randomUUIDv7(),
    event: 'headrace test',
    properties: '{"test":true}',
    timestamp: nowMs,
    team_id: teamId,
    distinct_id: 'headrace-test',
    elements_chain: '',
    created_at: nowMs,
    person_id: NIL_UUID,
    person_created_at: nowMs,
    person_properties: '{}',
    group0_properties: '',
    group1_properties: '',
    group2_properties: '',
    group3_properties: '',
    group4_properties: '',
    group0_created_at: 0,
    group1_created_at: 0,
    group2_created_at: 0,
    group3_created_at: 0,
    group4_created_at: 0,
    person_mode: 'full',
    historical_migration: false,
    _log_id: NIL_UUID,
    _partition: 0,
    _offset: 0,
    _sub: 0,
    _config_version: 0,
    _restamped: false,
  }
  return new EventView(EVENTS.encode(row), { logId: NIL_UUID, partition: 0, offset: 0, sub: 0 }, teamId)
}
