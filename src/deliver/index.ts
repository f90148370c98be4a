/**
 * Deliver: events to destinations of others, each at least once and under one id (architecture §7, decision 0036). A
 * destination is a cursor over topic `events` plus a function.
 *
 * `deliver.ts` owns partition numbers; `partition.ts` keeps one going, `round.ts` is its shared reader, `follower.ts` brings
 * detached destinations on, `job.ts` is one destination's work on one batch. `runtime.ts` is a destination in this process
 * with its circuit (`breaker.ts`) and pace (`throttle.ts`); `cursors.ts` and `retries.ts` are what Postgres knows.
 * `targets/` are the kinds, a file each; `http/` is the one way out, with the guard over addresses.
 */
export { sendAgain } from './again.ts'
export { auditDeliveries, findingsOf } from './audit.ts'
export { type Deliver, type DeliverDeps, startDeliver } from './deliver.ts'
export { type Destination, type DestinationConfig, readConfig, readName, showConfig } from './destination.ts'
export { DELIVER_ERRORS } from './errors.ts'
export { eventsTopic } from './events-topic.ts'
export { countReplay, startsAt } from './replay.ts'
export { type DestinationReport, listWaiting, reportOf } from './report.ts'
export { checkTarget } from './runtime.ts'
export { maskSecret, openSecretBox } from './secrets.ts'
export { DestinationStore } from './store.ts'
export { TARGET_KINDS, targetKind } from './targets/index.ts'
export { tryDestination } from './try.ts'
