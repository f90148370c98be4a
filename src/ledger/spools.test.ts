import { describe, expect, test } from 'bun:test'
import type { RegisteredSpool } from '../catalog/index.ts'
import { formatAudit } from './format.ts'
import { judgeSpool, type SpoolFindingKind } from './spools.ts'

const SPOOL: RegisteredSpool = {
  id: '0193a7c4-5b1e-7c3a-9d2f-000000000001',
  host: 'c1',
  folder: '/var/lib/headrace/spool/0193a7c4-5b1e-7c3a-9d2f-000000000001',
  accepted: 120,
  drained: 120,
  bytes: 0,
  state: 'direct',
  silentS: 2,
}

describe('a spool in the audit', () => {
  const rows: [string, Partial<RegisteredSpool>, SpoolFindingKind | undefined][] = [
    ['empty and heard of', {}, undefined],
    ['heard of just within a minute', { silentS: 60 }, undefined],
    ['empty, not heard of for a minute', { silentS: 61 }, 'spool_silent'],
    ['not empty', { drained: 119, state: 'draining' }, 'spool_not_empty'],
    ['not empty and not heard of', { drained: 100, silentS: 3_600 }, 'spool_silent'],
    ['damaged', { drained: 100, state: 'damaged', silentS: 3_600 }, 'spool_damaged'],
  ]
  test.each(rows)('%s', (_, change, finding) => {
    expect(judgeSpool({ ...SPOOL, ...change }).finding).toBe(finding)
  })

  test('is told with its counts and its folder, and one without a finding is not', () => {
    const spools = [judgeSpool({ ...SPOOL, drained: 20, bytes: 4096 }), judgeSpool({ ...SPOOL, host: 'c2' })]
    const text = formatAudit({
      partitions: [],
      losses: [],
      spools,
      spoolFindings: 1,
      unaccounted: 0,
      exact: true,
    })
    expect(text).toContain('c1')
    expect(text).not.toContain('c2')
    expect(text).toMatch(/120 +20 +100 +4096 +2 s ago +\/var\/lib\/headrace\/spool/)
    expect(text).toContain('spool_not_empty')
  })
})
