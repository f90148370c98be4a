/** The account of a capture without a catalogue: counts in this process, keeps no samples. For benchmarks and tests. */
import { Meter } from '../../catalog/index.ts'
import type { Account } from './index.ts'

export function ownAccount(): Account {
  const meters = new Map<number, Meter>()
  return {
    usage: {
      meter(teamId) {
        let meter = meters.get(teamId)
        if (!meter) {
          meter = new Meter(teamId, 0)
          meters.set(teamId, meter)
        }
        return meter
      },
    },
    rejectedRequests: { wants: () => false, keep: () => undefined },
  }
}
