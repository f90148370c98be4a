/** Rows of topic `deliveries`: what became of an event at a destination. Made before the commit that counts it. */
import { DELIVERIES, type DeliveryRow, encodeRowHeader, TOPICS } from '../event/index.ts'
import type { LogRecord } from '../log/index.ts'
import type { Destination } from './destination.ts'
import type { Ended } from './job.ts'

/** `nowMs` is its version, too: of two rows of one event and destination the later one is true. */
export function deliveryRecord(
  { id, teamId }: Pick<Destination, 'id' | 'teamId'>,
  { view, state, attempts, status, response }: Ended,
  partition: number,
  nowMs: number,
): LogRecord {
  const { row, source } = view
  const made: DeliveryRow = {
    team_id: teamId,
    destination_id: id,
    uuid: row.uuid,
    event: row.event,
    distinct_id: row.distinct_id,
    state,
    attempts,
    status,
    response,
    timestamp: row.created_at,
    finished_at: nowMs,
    _log_id: source.logId,
    _partition: source.partition,
    _offset: source.offset,
    _sub: source.sub,
    _version: nowMs,
  }
  return {
    topic: TOPICS.deliveries,
    partition,
    header: encodeRowHeader({
      source,
      prev: undefined,
      teamId,
      timestampMs: row.created_at,
      restamped: false,
    }),
    value: DELIVERIES.encode(made),
  }
}
