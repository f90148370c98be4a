/**
 * The value that the log keeps of an event of v1: the client's own bytes, and at the end of their `properties` what v1
 * says outside of them, as v0 says it, so that ingest knows one shape only. What `properties` has itself stays as it is.
 * Cost: one copy of the event, 0.3 µs for 1.2 kB.
 */
import type { V1Candidate } from './scan-event.ts'

/** The options of an event as they were read. */
export type EventOptions = {
  cookielessMode: boolean | undefined
  disableSkewCorrection: boolean | undefined
  processPersonProfile: boolean | undefined
  productTourId: string | undefined
}

/** Splices for one request, all of whose events come from one SDK. */
export class Splicer {
  private readonly lib: string
  private readonly libVersion: string
  /** Events of one request mostly say the same. */
  private lastText = ''
  private lastBytes = Buffer.alloc(0)

  constructor(sdkName: string, sdkVersion: string) {
    this.lib = member('$lib', sdkName)
    this.libVersion = member('$lib_version', sdkVersion)
  }

  /** What is to be added to the properties of `candidate`, as they were scanned: each member with a comma before it. */
  members(candidate: V1Candidate, options: EventOptions): string {
    const { sessionId, windowId } = candidate
    const { cookielessMode, disableSkewCorrection, processPersonProfile, productTourId } = options
    let text = ''
    if (typeof sessionId === 'string' && !candidate.ownSessionId) text += member('$session_id', sessionId)
    if (typeof windowId === 'string' && !candidate.ownWindowId) text += member('$window_id', windowId)
    if (cookielessMode !== undefined && candidate.ownCookielessMode === undefined) {
      text += cookielessMode ? ',"$cookieless_mode":true' : ',"$cookieless_mode":false'
    }
    if (disableSkewCorrection !== undefined && candidate.ownIgnoreSentAt === undefined) {
      text += disableSkewCorrection ? ',"$ignore_sent_at":true' : ',"$ignore_sent_at":false'
    }
    if (productTourId !== undefined && !candidate.ownProductTourId) {
      text += member('$product_tour_id', productTourId)
    }
    if (processPersonProfile !== undefined && candidate.ownProcessPersonProfile === undefined) {
      text += processPersonProfile ? ',"$process_person_profile":true' : ',"$process_person_profile":false'
    }
    if (candidate.ownLib !== undefined) return text
    // A version that the event says itself is not that of our name.
    return candidate.ownLibVersion === undefined ? text + this.lib + this.libVersion : text + this.lib
  }

  /** The value of `candidate`, whose bytes are in `body`, with what `members` gave. */
  value(body: Buffer, candidate: V1Candidate, members: string): Buffer {
    const { start, end } = candidate
    if (members === '') return body.subarray(start, end)
    if (candidate.properties === 'absent') {
      return this.spliced(body, start, end - 1, end, `,"properties":{${members.slice(1)}}`)
    }
    const text = candidate.propertiesEmpty ? members.slice(1) : members
    return this.spliced(body, start, candidate.propertiesEnd, end, text)
  }

  private spliced(body: Buffer, start: number, at: number, end: number, text: string): Buffer {
    if (text !== this.lastText) {
      this.lastText = text
      this.lastBytes = Buffer.from(text)
    }
    const added = this.lastBytes
    const value = Buffer.allocUnsafe(end - start + added.length)
    body.copy(value, 0, start, at)
    added.copy(value, at - start)
    body.copy(value, at - start + added.length, at, end)
    return value
  }
}

function member(name: string, value: string): string {
  return `,"${name}":${JSON.stringify(value)}`
}
