/**
 * The bounds of capture that are not settings, and the budget of bytes in flight: from the moment a body is read to
 * the log's acknowledgement its bytes are counted, and what does not fit is refused with 503 before it is read.
 */
import { gauge } from '../observe/index.ts'
import { captureError } from './errors.ts'

/** Levels of objects and arrays in one event, unless it is set. */
export const EVENT_DEPTH_MAX = 128
/** Members of all objects in one event, unless it is set. */
export const EVENT_KEYS_MAX = 10_000
/** UTF-16 units of an event's name in the header; the value keeps the whole. */
export const EVENT_NAME_UNITS_MAX = 200
/** UTF-16 units of the user agent, and of the SDK's name or version, in the header. */
export const USER_AGENT_UNITS_MAX = 512
export const SDK_UNITS_MAX = 64
export const REQUEST_ID_UNITS_MAX = 64
export const TOKEN_BYTES_MAX = 64
/** A compressed body above this is inflated on another thread: on ours it would hold up all others for over 1 ms. */
export const INFLATE_INLINE_BYTES_MAX = 131_072

const bytesGauge = gauge(
  'headrace_capture_in_flight_bytes',
  'Bytes of bodies being read, decompressed or stored.',
)
const bytesMaxGauge = gauge(
  'headrace_capture_in_flight_bytes_max',
  'Limit of headrace_capture_in_flight_bytes.',
)

/** Counts bytes in flight. One per capture process. */
export class InFlightBudget {
  private bytes = 0

  constructor(private readonly bytesMax: number) {}

  /** A share for one request, empty at first. */
  open(): InFlightShare {
    return new InFlightShare(this)
  }

  /** Throws HR_CAPTURE_BUSY when `bytes` more would pass the limit. */
  take(bytes: number): void {
    if (this.bytes + bytes > this.bytesMax) {
      throw captureError(
        'HR_CAPTURE_BUSY',
        `capture is storing as much as it may at a time (${this.bytesMax} bytes); send this again later`,
      )
    }
    this.bytes += bytes
  }

  give(bytes: number): void {
    this.bytes -= bytes
  }

  /** Brings the metrics up to date; called when they are read, because setting a gauge costs more than counting. */
  publish(): void {
    bytesGauge.set(this.bytes)
    bytesMaxGauge.set(this.bytesMax)
  }
}

/** What one request holds of the budget; `close` gives it all back. */
export class InFlightShare {
  private bytes = 0

  constructor(private readonly budget: InFlightBudget) {}

  take(bytes: number): void {
    this.budget.take(bytes)
    this.bytes += bytes
  }

  close(): void {
    this.budget.give(this.bytes)
    this.bytes = 0
  }
}
