/** A squash as text for a terminal. Pure. */
import type { Squash } from './runs.ts'

export type SquashPreview = { overrides: number; months: readonly { month: string; rows: number }[] }

export function previewText({ overrides, months }: SquashPreview): string {
  if (overrides === 0) return 'nothing to squash'
  const rows = months.reduce((sum, month) => sum + month.rows, 0)
  const which = months.map((month) => `${month.month}: ${month.rows}`).join(', ')
  return `${overrides} overrides would go; ${rows} events would be written anew${rows > 0 ? ` (${which})` : ''}`
}

export function doneText({ counts }: Squash): string {
  return counts.overrides === 0
    ? 'nothing to squash'
    : `${counts.overrides ?? 0} overrides are gone; ${counts.events ?? 0} events say now what they said`
}
