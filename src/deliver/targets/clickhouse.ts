/**
 * A table of another ClickHouse, over its HTTP interface: one INSERT per batch, in JSONEachRow. `columns` says what goes into
 * each column, as templates. The id of a batch is its deduplication token: a batch that is sent again as it was is stored
 * once where the table keeps tokens; one cut otherwise carries the `id` of each event, for a ReplacingMergeTree.
 */
import { deliveryUuid } from '../../event/index.ts'
import { Options } from '../options.ts'
import { compileTemplate } from '../template.ts'
import { httpTarget } from './http-target.ts'
import type { TargetKind } from './target.ts'

const COLUMNS_DEFAULT = {
  id: '{id}',
  uuid: '{uuid}',
  event: '{event}',
  distinct_id: '{distinct_id}',
  timestamp: '{timestamp}',
  properties: '{properties}',
}
const TABLE = /^[A-Za-z_]\w*(\.[A-Za-z_]\w*)?$/

export const CLICKHOUSE: TargetKind = {
  kind: 'clickhouse',
  open(values, context) {
    const options = new Options('clickhouse', values)
    const base = options.url('url')
    const table = options.text('table')
    const user = options.text('user', 'default')
    const password = options.optionalText('password') ?? ''
    const batchMax = options.whole('batch', 1, 1_000, 1_000)
    const render = compileTemplate(options.any('columns') ?? COLUMNS_DEFAULT)
    options.done()
    if (!TABLE.test(table))
      throw options.invalid('table', 'a table, or database.table, of letters, digits and _')
    const headers = {
      'x-clickhouse-user': user,
      'x-clickhouse-key': password,
      'content-type': 'application/x-ndjson',
    }
    return httpTarget(context, {
      batchMax,
      request(deliveries) {
        const query = new URLSearchParams({
          query: `INSERT INTO ${table} FORMAT JSONEachRow`,
          insert_deduplication_token: deliveryUuid(
            context.destinationId,
            deliveries.map(({ id }) => id).join(),
          ),
          async_insert: '0',
          // The status then says how it ended.
          wait_end_of_query: '1',
          date_time_input_format: 'best_effort',
          input_format_skip_unknown_fields: '1',
          // An object into a column of text.
          input_format_json_read_objects_as_strings: '1',
        })
        const rows = deliveries.map(({ id, view }) => JSON.stringify(render({ ...view.fields, id })))
        return { url: `${base}?${query}`, headers, body: `${rows.join('\n')}\n` }
      },
    })
  },
}
