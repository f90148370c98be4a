import { expect, test } from 'bun:test'
import { join } from 'node:path'
import { DROP_REASONS, WARNING_TYPES } from '../../event/index.ts'

test('the guide lists every cookieless reason and warning, and no other', async () => {
  const guide = await Bun.file(join(import.meta.dir, '../../../docs/guides/cookieless.md')).text()
  const listed = guide.split('\n').flatMap((line) => {
    const [, reason, , warning] = /^\| `(cookieless_\w+)` \|(.*)\| (?:`(\w+)` )?\|$/.exec(line) ?? []
    return reason === undefined ? [] : [{ reason, warning }]
  })
  const known = (table: object) => Object.keys(table).filter((name) => name.startsWith('cookieless_'))
  expect(listed.map(({ reason }) => reason).sort()).toEqual(known(DROP_REASONS).sort())
  const warnings = listed.flatMap(({ warning }) => warning ?? [])
  expect(warnings.sort()).toEqual(known(WARNING_TYPES).sort())
})
