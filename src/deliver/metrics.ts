/** What deliver tells about itself. Bumped per batch or per request, never per event and destination. */
import { counter, gauge, histogram } from '../observe/index.ts'

export const deliverMetrics = {
  events: counter(
    'headrace_deliver_events_total',
    'Events by what became of them at the destinations: delivered, filtered, sampled_out, parked (to be tried again), failed, expired.',
    ['kind', 'state'],
  ),
  requests: counter('headrace_deliver_requests_total', 'Requests to receivers, by result.', [
    'kind',
    'result',
  ]),
  requestSeconds: histogram(
    'headrace_deliver_request_seconds',
    'Time of one request to a receiver.',
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
    ['kind'],
  ),
  lag: gauge('headrace_deliver_lag_records', 'Records of topic events in front of the shared reader.', [
    'partition',
  ]),
  detached: gauge('headrace_deliver_detached', 'Partitions in which an active destination is detached.'),
  behind: gauge(
    'headrace_deliver_behind_records',
    'Records in front of the hindmost cursor of an active destination, over the partitions of this process.',
    ['destination'],
  ),
  open: gauge('headrace_deliver_circuit_open', '1 while the circuit of a destination is open.', [
    'destination',
  ]),
  retries: gauge('headrace_deliver_retries_waiting', 'Events that failed alone and wait to be tried again.', [
    'destination',
  ]),
  paused: counter('headrace_deliver_paused_total', 'Destinations paused because the receiver said 410 Gone.'),
  gap: gauge(
    'headrace_deliver_gap',
    '1 while a partition, or a destination in it, stands still because of a gap.',
    ['partition'],
  ),
  blockedAddresses: counter(
    'headrace_deliver_blocked_addresses_total',
    'Requests not sent because every address of their host is private or special.',
  ),
}
