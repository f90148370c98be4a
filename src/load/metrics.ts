/** What the load tells about itself. Bumped per batch or per cut, never per row. */
import { counter, gauge, histogram } from '../observe/index.ts'

const SECONDS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]
const FRESHNESS_SECONDS = [0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30, 60, 300, 1800, 7200]

export const loadMetrics = {
  rows: counter('headrace_load_rows_total', 'Rows inserted into ClickHouse.', ['table']),
  bytes: counter('headrace_load_bytes_total', 'Bytes of the rows inserted into ClickHouse.', ['table']),
  inserts: counter('headrace_load_inserts_total', 'Inserts that ClickHouse took.', ['table']),
  insertSeconds: histogram(
    'headrace_load_insert_seconds',
    'Time of one insert that ClickHouse took.',
    SECONDS,
    ['table'],
  ),
  retries: counter(
    'headrace_load_retries_total',
    'Inserts that failed and were tried again, by error code.',
    ['table', 'code'],
  ),
  freshness: histogram(
    'headrace_load_freshness_seconds',
    'Per insert into events: age of its oldest row (since the log took it) when it could be queried.',
    FRESHNESS_SECONDS,
  ),
  copies: counter(
    'headrace_load_copies_total',
    'Records of events passed over because their row was there already.',
  ),
  lag: gauge('headrace_load_lag_records', 'Records of a row topic that are not loaded yet.', [
    'topic',
    'partition',
  ]),
  buffered: gauge('headrace_load_buffered_bytes', 'Rows that wait to be cut.', ['table']),
  gap: gauge(
    'headrace_load_gap',
    '1 while the load of a partition number stands still because of a gap or a record that cannot be read.',
    ['group', 'partition'],
  ),
  fenceMoved: counter(
    'headrace_load_fence_moved_total',
    'Cuts given up because another loader had moved the fence.',
    ['table'],
  ),
  openIntents: gauge('headrace_load_open_intents', 'Inserts that were promised and are not settled.'),
  repairIntents: gauge('headrace_load_repair_intents', 'Inserts that wait for `headrace repair`.'),
  settled: counter(
    'headrace_load_settled_total',
    'Intents of an earlier owner or attempt that were settled, by result.',
    ['table', 'result'],
  ),
  refusedRows: counter('headrace_load_refused_rows_total', 'Rows that ClickHouse refused for good.', [
    'table',
  ]),
  blocked: gauge('headrace_load_blocked', '1 while inserts into a table wait for ClickHouse.', ['table']),
}
