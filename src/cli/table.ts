/** A table for a terminal: columns as wide as their widest cell, two spaces between, no lines. */
import { columns } from '../event/index.ts'

export function formatTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  return columns([head, ...rows]).join('\n')
}
