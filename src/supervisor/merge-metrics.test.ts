import { expect, test } from 'bun:test'
import { mergeMetrics } from './merge-metrics.ts'

const merge = (pages: Record<string, string>) => mergeMetrics(new Map(Object.entries(pages)))

const rows: [rule: string, pages: Record<string, string>, merged: string][] = [
  [
    'a sample without labels gets the role',
    { load: '# HELP a Of a.\n# TYPE a counter\na 1\n' },
    '# HELP a Of a.\n# TYPE a counter\na{role="load"} 1\n',
  ],
  [
    'labels are kept behind it',
    { load: '# TYPE a gauge\na{b="c"} 1\n' },
    '# TYPE a gauge\na{role="load",b="c"} 1\n',
  ],
  ['empty labels', { load: '# TYPE a gauge\na{} 1\n' }, '# TYPE a gauge\na{role="load"} 1\n'],
  [
    'a role that a sample names itself is kept',
    { load: '# TYPE a gauge\na{role="x"} 1\n' },
    '# TYPE a gauge\na{role="x"} 1\n',
  ],
  [
    'a label value with a space and braces',
    { load: '# TYPE a gauge\na{why="{no} room"} 1 1700000000000\n' },
    '# TYPE a gauge\na{role="load",why="{no} room"} 1 1700000000000\n',
  ],
  [
    'samples of one metric stand together under one head',
    {
      capture: '# HELP a Of a.\n# TYPE a counter\na 1\n\n# TYPE b gauge\nb 5\n',
      load: '# HELP a Of a.\n# TYPE a counter\na 2\n',
    },
    '# HELP a Of a.\n# TYPE a counter\na{role="capture"} 1\na{role="load"} 2\n# TYPE b gauge\nb{role="capture"} 5\n',
  ],
  [
    'the parts of a histogram stay with it',
    { load: '# TYPE h histogram\nh_bucket{le="1"} 2\nh_sum 3\nh_count 2\n' },
    '# TYPE h histogram\nh_bucket{role="load",le="1"} 2\nh_sum{role="load"} 3\nh_count{role="load"} 2\n',
  ],
  ['a role without metrics', { load: '' }, ''],
]
test.each(rows)('%s', (_, pages, merged) => expect(merge(pages)).toBe(merged))
