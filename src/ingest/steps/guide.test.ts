/** The guide to ingestion: its lists and tables are those of the code. */
import { describe, expect, test } from 'bun:test'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { INGESTION_OPTIONS } from '../../catalog/index.ts'
import { DEAD_LETTER_REASONS, DROP_REASONS, WARNING_TYPES } from '../../event/index.ts'
import { withDefaults } from '../project-options.ts'
import { STEPS } from './index.ts'
import { BLOAT_PROPERTIES, NEVER_LIFTED_EVENTS } from './normalise.ts'
import { EVENT_LEVELS_MAX } from './parse.ts'
import { CAMPAIGN_PROPERTIES, DEVICE_PROPERTIES, LIFTED_UNITS_MAX } from './person-properties.ts'

const GUIDE = readFileSync(join(import.meta.dir, '../../../docs/guides/ingestion.md'), 'utf8')

/** What follows the marker, to the next empty line behind it. */
function after(marker: string): string {
  const [, text] = GUIDE.split(`<!-- ${marker} -->`)
  return text!.trimStart().split('\n\n')[0]!.split('\n- ')[0]!
}

const codesIn = (text: string) => [...text.matchAll(/`([^`]+)`/g)].map(([, code]) => code!)
const cellsOf = (table: string) =>
  table
    .split('\n')
    .slice(2)
    .map((row) =>
      row
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    )

describe('docs/guides/ingestion.md', () => {
  test('the steps', () => {
    const steps = Object.entries(STEPS).map(([name, { by, does }]) => [`\`${name}\``, by, does])
    expect(cellsOf(after('steps'))).toEqual(steps)
  })

  test('the options and what holds without them', () => {
    const rows = cellsOf(after('options'))
    expect(rows.map(([name]) => name)).toEqual(INGESTION_OPTIONS.map((name) => `\`${name}\``))
    const defaults = withDefaults({})
    for (const [name, , without] of rows) {
      const value = defaults[codesIn(name!)[0] as keyof typeof defaults]
      if (typeof value === 'string') expect(without).toBe(`\`${value}\``)
    }
  })

  test.each([
    ['device', DEVICE_PROPERTIES],
    ['campaign', CAMPAIGN_PROPERTIES],
    ['bloat', BLOAT_PROPERTIES],
  ] as const)('the list of %s properties', (marker, names) => {
    expect(codesIn(after(marker))).toEqual([...names])
  })

  test('limits, and events that nothing is lifted of', () => {
    expect(GUIDE).toContain(`deeper than ${EVENT_LEVELS_MAX} levels`)
    expect(GUIDE).toContain(`more than ${LIFTED_UNITS_MAX.toLocaleString('en')} characters`)
    for (const name of NEVER_LIFTED_EVENTS) expect(GUIDE).toContain(`\`${name}\``)
  })

  test('every end and warning that it names is one', () => {
    const known = { ...DROP_REASONS, ...DEAD_LETTER_REASONS, ...WARNING_TYPES }
    const [, ends] = GUIDE.split('## What keeps an event out')
    const named = codesIn(ends!.split('\n## ')[0]!).filter((code) =>
      /^(invalid|unreadable|event|group)_\w+$/.test(code),
    )
    expect(named.length).toBeGreaterThan(10)
    for (const code of named) expect(known).toHaveProperty(code)
  })
})
