/**
 * A Segment body in one pass over its bytes: one message, or an object with a `batch` of them. What comes out: the
 * envelope, and for each message its place, its depth and its ids as they are written, so that a message that is too
 * large or too deep is refused before a tree is made of it, and two long numbers stay two ids.
 * Throws HR_CAPTURE_NOT_JSON, HR_CAPTURE_WRONG_SHAPE, HR_CAPTURE_TOO_MANY_EVENTS. Cost: about 1 ns per byte.
 */
import { JsonFields, type JsonPick, JsonScanError, JsonScanner } from '../../../event/index.ts'
import { captureError } from '../../errors.ts'

/** A message where it stands in the body, not yet judged. Members start undefined: "not there". */
export class ScannedMessage {
  /** Levels of nesting, the message itself counting as 1. */
  depth = 1
  isObject = true
  type: JsonPick | undefined = undefined
  userId: JsonPick | undefined = undefined
  anonymousId: JsonPick | undefined = undefined
  previousId: JsonPick | undefined = undefined
  groupId: JsonPick | undefined = undefined
  /** `context.groupId`. */
  contextGroupId: JsonPick | undefined = undefined
  messageId: JsonPick | undefined = undefined
  sentAt: JsonPick | undefined = undefined
  writeKey: JsonPick | undefined = undefined

  /** Its bytes are `start … end` of the body. */
  constructor(
    readonly start: number,
    public end = start,
  ) {}
}

export type ScannedMessages = {
  messages: ScannedMessage[]
  /** Of the batch; undefined for a single message, whose own members count. */
  writeKey: JsonPick | undefined
  sentAt: JsonPick | undefined
  /** Members of the batch that count for each of its messages. */
  context: JsonPick | undefined
  integrations: JsonPick | undefined
  /** Levels of the deeper of the two. */
  sharedDepth: number
}

const MESSAGE_FIELDS = [
  'type',
  'userId',
  'anonymousId',
  'previousId',
  'groupId',
  'messageId',
  'sentAt',
  'writeKey',
  'context',
] as const
const messageFields = new JsonFields(MESSAGE_FIELDS)
const [TYPE, USER_ID, ANONYMOUS_ID, PREVIOUS_ID, GROUP_ID, MESSAGE_ID, SENT_AT, WRITE_KEY, CONTEXT] = [
  0, 1, 2, 3, 4, 5, 6, 7, 8,
] as const

const contextFields = new JsonFields(['groupId'])
const envelopeFields = new JsonFields(['batch', 'writeKey', 'sentAt', 'context', 'integrations'])

const OPEN_BRACE = 0x7b
const OPEN_BRACKET = 0x5b

/** The body of a path that takes one message. */
export function scanSingle(bytes: Buffer): ScannedMessages {
  return scan(bytes, (scanner, into) => {
    const message = new ScannedMessage(scanner.at)
    scanMessage(scanner, message)
    into.messages.push(message)
  })
}

/** The body of a path that takes a batch, of at most `messagesMax`. */
export function scanBatch(bytes: Buffer, messagesMax: number): ScannedMessages {
  return scan(bytes, (scanner, into) => {
    let hasBatch = false
    if (scanner.enterObject()) {
      do {
        scanner.key()
        switch (scanner.keyIn(envelopeFields)) {
          case 0:
            // Of repeated members the last one counts.
            into.messages.length = 0
            hasBatch = scanner.peek() === OPEN_BRACKET
            if (hasBatch) scanMessages(scanner, into.messages, messagesMax)
            else scanner.skip()
            break
          case 1:
            into.writeKey = scanner.pick()
            break
          case 2:
            into.sentAt = scanner.pick()
            break
          case 3:
            into.context = pickShared(scanner, into)
            break
          case 4:
            into.integrations = pickShared(scanner, into)
            break
          default:
            scanner.skip()
        }
      } while (scanner.nextMember())
    }
    if (!hasBatch) throw captureError('HR_CAPTURE_WRONG_SHAPE', 'the body has no `batch` that is a list')
  })
}

function scan(bytes: Buffer, read: (scanner: JsonScanner, into: ScannedMessages) => void): ScannedMessages {
  const into: ScannedMessages = {
    messages: [],
    writeKey: undefined,
    sentAt: undefined,
    context: undefined,
    integrations: undefined,
    sharedDepth: 0,
  }
  try {
    const scanner = new JsonScanner(bytes)
    if (scanner.peek() === OPEN_BRACE) {
      read(scanner, into)
      scanner.finish()
    } else {
      scanner.skip()
      scanner.finish()
      throw captureError('HR_CAPTURE_WRONG_SHAPE', 'the body is not a JSON object')
    }
  } catch (error) {
    if (!(error instanceof JsonScanError)) throw error
    throw captureError(
      'HR_CAPTURE_NOT_JSON',
      `the body is not JSON: ${error.message}, at byte ${error.at} of ${bytes.length}`,
      error,
    )
  }
  return into
}

function pickShared(scanner: JsonScanner, into: ScannedMessages): JsonPick {
  scanner.deepest = 0
  const value = scanner.pick()
  if (scanner.deepest > into.sharedDepth) into.sharedDepth = scanner.deepest
  return value
}

function scanMessages(scanner: JsonScanner, messages: ScannedMessage[], messagesMax: number): void {
  if (!scanner.enterArray()) return
  do {
    if (messages.length === messagesMax) {
      throw captureError(
        'HR_CAPTURE_TOO_MANY_EVENTS',
        `the request holds more than ${messagesMax} events, which is what is allowed; send it in parts`,
      )
    }
    const isObject = scanner.peek() === OPEN_BRACE
    const message = new ScannedMessage(scanner.at)
    message.isObject = isObject
    if (isObject) scanMessage(scanner, message)
    else scanner.skip()
    message.end = scanner.at
    messages.push(message)
  } while (scanner.nextElement())
}

function scanMessage(scanner: JsonScanner, into: ScannedMessage): void {
  if (scanner.enterObject()) {
    do {
      scanner.key()
      const field = scanner.keyIn(messageFields)
      if (field === CONTEXT) {
        into.contextGroupId = undefined
        if (scanner.peek() === OPEN_BRACE) scanContext(scanner, into)
        else skip(scanner, into, 1)
      } else if (field < 0) skip(scanner, into, 1)
      else keep(into, field, pick(scanner, into, 1))
    } while (scanner.nextMember())
  }
  into.end = scanner.at
}

function keep(into: ScannedMessage, field: number, value: JsonPick): void {
  switch (field) {
    case TYPE:
      into.type = value
      break
    case USER_ID:
      into.userId = value
      break
    case ANONYMOUS_ID:
      into.anonymousId = value
      break
    case PREVIOUS_ID:
      into.previousId = value
      break
    case GROUP_ID:
      into.groupId = value
      break
    case MESSAGE_ID:
      into.messageId = value
      break
    case SENT_AT:
      into.sentAt = value
      break
    case WRITE_KEY:
      into.writeKey = value
      break
  }
}

function scanContext(scanner: JsonScanner, into: ScannedMessage): void {
  if (into.depth < 2) into.depth = 2
  if (!scanner.enterObject()) return
  do {
    scanner.key()
    if (scanner.keyIn(contextFields) === 0) into.contextGroupId = pick(scanner, into, 2)
    else skip(scanner, into, 2)
  } while (scanner.nextMember())
}

/** Picks a value that stands `level` levels deep in the message, and keeps count of the depth. */
function pick(scanner: JsonScanner, into: ScannedMessage, level: number): JsonPick {
  scanner.deepest = 0
  const value = scanner.pick()
  if (level + scanner.deepest > into.depth) into.depth = level + scanner.deepest
  return value
}

function skip(scanner: JsonScanner, into: ScannedMessage, level: number): void {
  scanner.deepest = 0
  scanner.skip()
  if (level + scanner.deepest > into.depth) into.depth = level + scanner.deepest
}
