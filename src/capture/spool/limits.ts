/** The bounds of the spool and of draining it that are not settings. */
import type { Backoff } from '../../platform/index.ts'

/** A drained segment is removed whole, so this is what an almost empty spool may still take. */
export const SEGMENT_BYTES = 32 << 20
/** The last segment is closed at an eighth of this, so that a drained one can go though it is not full. */
export const SEGMENT_KEEP_MS = 480_000
export const RETENTION_EVERY_MS = 5_000
/** Larger than any raw record and its lane. */
export const RECORD_BYTES_MAX = 2 << 20
/** Records that wait for the disk. Appends come one at a time, so only a hung disk comes near. */
export const QUEUE_BYTES_MAX = 128 << 20
/** An append is over when the disk says so, never before: what was given up could land behind what followed. */
export const APPEND_MS_MAX = 24 * 3_600_000
/** The sizes of the files are looked at this often; in between, what was appended is added. */
export const DISK_LOOK_EVERY_MS = 1_000

/** One send of the drainer: twice a group (group.ts), so that draining is faster than any arrival. */
export const DRAIN_BATCH_BYTES = 16 << 20
export const DRAIN_BATCH_RECORDS = 40_000
/** A send of the drainer that is not acknowledged after this is given up and made again. */
export const DRAIN_SEND_MS = 30_000
export const DRAIN_BACKOFF: Backoff = { firstMs: 100, maxMs: 2_000 }

/** What may be left in the spool when the way back to the log is tried: one send, well within the hold. */
export const HANDOVER_RECORDS = 20_000
/** For so long new groups may wait in memory for the spool to become empty. */
export const HOLD_MS = 500
/** After a hold that was not long enough. */
export const HOLD_AGAIN_MS = 1_000
/** With an empty spool the log is asked this often whether it answers. */
export const PROBE_EVERY_MS = 1_000
/** While draining, an append waits for the drainer's send in flight, at most this long: so the spool gets empty. */
export const PACE_MS_MAX = 50

/** The log must have been quick for this long before events go to it directly; doubled when it was not to be trusted. */
export const CALM_MS_MIN = 500
export const CALM_MS_MAX = 30_000
/** Trusted again after so long without a failure. */
export const TRUST_AFTER_MS = 60_000

/** Spools that nobody holds are looked for this often. */
export const ADOPT_EVERY_MS = 5_000
/** One that could not be opened or drained is left alone for so long: those behind it come first. */
export const LEAVE_ALONE_MS = 5 * 60_000
/** What the register says of a spool is at most so old while Postgres answers. */
export const REPORT_EVERY_MS = 5_000
/** While a spool holds anything its metrics are set this often. */
export const PUBLISH_EVERY_MS = 1_000
/** A stop waits so long for a log that is away; for one that takes events it waits as long as it may. */
export const STOP_AWAY_MS = 3_000
/** At the end: for the last words to Postgres, and for sends in flight. */
export const LAST_REPORT_MS = 1_000
