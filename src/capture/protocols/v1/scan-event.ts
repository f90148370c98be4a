/**
 * One event of v1 (capture spec §6.2): what comes in is a scanner at its opening brace, what goes out is a candidate with
 * the places that its options are spliced into. As with JSON.parse, the last of repeated members counts.
 */
import { JsonFields, type JsonPick, type JsonScanner } from '../../../event/index.ts'
import { EventCandidate } from '../../candidate.ts'
import { fieldNumbers, kindOf, pickMember, seekMember, skipMember } from '../../scan-members.ts'

/** An event of v1: beside what all candidates have, what v1 says outside of `properties`. */
export class V1Candidate extends EventCandidate {
  sessionId: JsonPick | undefined = undefined
  windowId: JsonPick | undefined = undefined
  options: 'absent' | 'object' | 'other' = 'absent'
  cookielessMode: JsonPick | undefined = undefined
  disableSkewCorrection: JsonPick | undefined = undefined
  processPersonProfile: JsonPick | undefined = undefined
  productTourId: JsonPick | undefined = undefined
  /** Place of the closing brace of `properties`; 0 when there are none. */
  propertiesEnd = 0
  propertiesEmpty = true
  /** `properties` has `$session_id` itself; and so on. */
  ownSessionId = false
  ownWindowId = false
  ownProductTourId = false

  override clearProperties(): void {
    super.clearProperties()
    this.propertiesEnd = 0
    this.propertiesEmpty = true
    this.ownSessionId = false
    this.ownWindowId = false
    this.ownProductTourId = false
  }

  clearOptions(): void {
    this.cookielessMode = undefined
    this.disableSkewCorrection = undefined
    this.processPersonProfile = undefined
    this.productTourId = undefined
  }
}

const EVENT_FIELDS = [
  'event',
  'uuid',
  'distinct_id',
  'timestamp',
  'session_id',
  'window_id',
  'options',
  'properties',
  '$set',
  '$set_once',
] as const
const eventFields = new JsonFields(EVENT_FIELDS)
const EVENT = fieldNumbers(EVENT_FIELDS)

const OPTION_FIELDS = [
  'cookieless_mode',
  'disable_skew_correction',
  'process_person_profile',
  'product_tour_id',
] as const
const optionFields = new JsonFields(OPTION_FIELDS)
const OPTION = fieldNumbers(OPTION_FIELDS)

const PROPERTY_FIELDS = [
  '$session_id',
  '$window_id',
  '$product_tour_id',
  '$cookieless_mode',
  '$ignore_sent_at',
  '$process_person_profile',
  '$lib',
  '$lib_version',
] as const
const propertyFields = new JsonFields(PROPERTY_FIELDS)
const PROPERTY = fieldNumbers(PROPERTY_FIELDS)

/** Scans an event whose opening brace is the next byte. */
export function scanEvent(scanner: JsonScanner, into: V1Candidate): void {
  if (!scanner.enterObject()) return
  let field = seekMember(scanner, eventFields, false, into, 1)
  while (field >= 0) {
    switch (field) {
      case EVENT.event:
        into.event = pickMember(scanner, into, 1)
        break
      case EVENT.uuid:
        into.uuid = pickMember(scanner, into, 1)
        break
      case EVENT.distinct_id:
        into.distinctId = pickMember(scanner, into, 1)
        break
      case EVENT.timestamp:
        into.timestamp = pickMember(scanner, into, 1)
        break
      case EVENT.session_id:
        into.sessionId = pickMember(scanner, into, 1)
        break
      case EVENT.window_id:
        into.windowId = pickMember(scanner, into, 1)
        break
      case EVENT.options:
        scanOptions(scanner, into)
        break
      case EVENT.properties:
        scanProperties(scanner, into)
        break
      case EVENT.$set:
        into.set = kindOf(scanner)
        skipMember(scanner, into, 1)
        break
      case EVENT.$set_once:
        into.setOnce = kindOf(scanner)
        skipMember(scanner, into, 1)
        break
    }
    field = seekMember(scanner, eventFields, true, into, 1)
  }
}

/** null is as good as absent. */
function scanOptions(scanner: JsonScanner, into: V1Candidate): void {
  into.clearOptions()
  const kind = kindOf(scanner)
  if (kind !== 'object') {
    into.options = kind === 'null' ? 'absent' : 'other'
    skipMember(scanner, into, 1)
    return
  }
  into.options = 'object'
  if (into.depth < 2) into.depth = 2
  if (!scanner.enterObject()) return
  let field = seekMember(scanner, optionFields, false, into, 2)
  while (field >= 0) {
    switch (field) {
      case OPTION.cookieless_mode:
        into.cookielessMode = pickMember(scanner, into, 2)
        break
      case OPTION.disable_skew_correction:
        into.disableSkewCorrection = pickMember(scanner, into, 2)
        break
      case OPTION.process_person_profile:
        into.processPersonProfile = pickMember(scanner, into, 2)
        break
      case OPTION.product_tour_id:
        into.productTourId = pickMember(scanner, into, 2)
        break
    }
    field = seekMember(scanner, optionFields, true, into, 2)
  }
}

function scanProperties(scanner: JsonScanner, into: V1Candidate): void {
  into.clearProperties()
  if (kindOf(scanner) !== 'object') {
    into.properties = 'other'
    skipMember(scanner, into, 1)
    return
  }
  into.properties = 'object'
  if (into.depth < 2) into.depth = 2
  if (scanner.enterObject()) {
    into.propertiesEmpty = false
    let field = seekMember(scanner, propertyFields, false, into, 2)
    while (field >= 0) {
      switch (field) {
        case PROPERTY.$session_id:
          into.ownSessionId = true
          skipMember(scanner, into, 2)
          break
        case PROPERTY.$window_id:
          into.ownWindowId = true
          skipMember(scanner, into, 2)
          break
        case PROPERTY.$product_tour_id:
          into.ownProductTourId = true
          skipMember(scanner, into, 2)
          break
        case PROPERTY.$cookieless_mode:
          into.ownCookielessMode = pickMember(scanner, into, 2)
          break
        case PROPERTY.$ignore_sent_at:
          into.ownIgnoreSentAt = pickMember(scanner, into, 2)
          break
        case PROPERTY.$process_person_profile:
          into.ownProcessPersonProfile = pickMember(scanner, into, 2)
          break
        case PROPERTY.$lib:
          into.ownLib = pickMember(scanner, into, 2)
          break
        case PROPERTY.$lib_version:
          into.ownLibVersion = pickMember(scanner, into, 2)
          break
      }
      field = seekMember(scanner, propertyFields, true, into, 2)
    }
  }
  into.propertiesEnd = scanner.at - 1
}
