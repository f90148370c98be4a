/** Where the door keeps its account: what projects used, and samples of what was refused. */
import { Meter, type ProjectUsage, type RejectedRequests } from '../../catalog/index.ts'

/** Written to the catalogue, in the background. */
export type Account = {
  usage: Pick<ProjectUsage, 'meter'>
  rejectedRequests: Pick<RejectedRequests, 'wants' | 'keep'>
}

/** The account of a capture without a catalogue: counts in this process, keeps no samples. For benchmarks and tests. */
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
