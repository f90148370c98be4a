/** Stops a postmaster: clients are cut and work is rolled back, then the hard way, then the hardest. */
import { waitUntil } from './wait.ts'

const STEPS = [
  { signal: 'SIGINT', ms: 5_000 },
  { signal: 'SIGQUIT', ms: 2_000 },
  { signal: 'SIGKILL', ms: 1_000 },
] as const

/** True once `isGone`; at the latest after 8 s it is false. A killed Postgres recovers at its next start. */
export async function stopProcess(pid: number, isGone: () => boolean): Promise<boolean> {
  for (const { signal, ms } of STEPS) {
    try {
      process.kill(pid, signal)
    } catch {
      // Gone already, or going: the condition decides.
    }
    if (await waitUntil(isGone, ms)) return true
  }
  return false
}
