/**
 * What a batch came to, by hour of capture, project, SDK and outcome code: kept in its receipt, so that it is counted
 * once whatever is replayed, and rolled up by the ledger. SDKs are told by name, without version, and of a batch at most
 * 50 names: what clients send has no limit of its own. A look per event, and a string only where neighbours differ.
 */
import type { ReceiptCount } from '../event/index.ts'
import { outcomeCode, type Slot } from './batch.ts'

const HOUR_MS = 3_600_000
const SDK_CHARACTERS_MAX = 64
const SDKS_MAX = 50
/** The SDKs that came after the first 50. */
const OTHER = '(other)'

export function batchCounts(slots: readonly Slot[]): ReceiptCount[] {
  const counts = new Map<string, ReceiptCount>()
  const names = new Map<string, string>()
  let last: ReceiptCount | undefined
  let lastSdk: string | undefined
  for (const slot of slots) {
    const { header, teamId, record } = slot
    const hour = Math.floor((header?.nowMs ?? record.appendedMs) / HOUR_MS)
    const sdk = header?.sdk ?? ''
    const code = outcomeCode(slot)
    if (!last || last[0] !== hour || last[1] !== teamId || lastSdk !== sdk || last[3] !== code) {
      const name = nameOf(sdk, names)
      const key = `${hour}:${teamId}:${code}:${name}`
      last = counts.get(key)
      if (!last) {
        last = [hour, teamId, name, code, 0]
        counts.set(key, last)
      }
      lastSdk = sdk
    }
    last[4]++
  }
  return [...counts.values()]
}

/** `names` are those of the batch so far. */
function nameOf(sdk: string, names: Map<string, string>): string {
  const known = names.get(sdk)
  if (known !== undefined) return known
  const slash = sdk.indexOf('/')
  // What is cut may end in half a character, and Postgres takes no NUL.
  const name = (slash < 0 ? sdk : sdk.slice(0, slash))
    .slice(0, SDK_CHARACTERS_MAX)
    .toWellFormed()
    .replaceAll('\0', '')
  if (names.size >= SDKS_MAX) return OTHER
  names.set(sdk, name)
  return name
}
