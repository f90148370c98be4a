/**
 * A Segment body in one pass over its bytes: one message, or an object with a `batch` of them. What comes out: the
 * envelope, and for each message its place, its depth and its ids as they are written, so that a message that is too
 * large or too deep is refused before a tree is made of it, and two long numbers stay two ids.
 * Throws HR_CAPTURE_NOT_JSON, HR_CAPTURE_WRONG_SHAPE, HR_CAPTURE_TOO_MANY_EVENTS, HR_CAPTURE_TOO_MANY_VALUES.
 */
import { JsonFields, type JsonPick, JsonScanner } from '../../../event/index.ts'
import { captureError } from '../../errors.ts'
import { fieldNumbers, pickMember, scanRefusal, seekMember, skipMember } from '../../scan-members.ts'

/** A message where it stands in the body, not yet judged. Members start undefined: "not there". */
export class ScannedMessage {
  /** Levels of nesting, the message itself counting as 1. */
  depth = 1
  /** Members of the message and of all objects in it. */
  keys = 0
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
const MESSAGE = fieldNumbers(MESSAGE_FIELDS)

const contextFields = new JsonFields(['groupId'])
const ENVELOPE_FIELDS = ['batch', 'writeKey', 'sentAt', 'context', 'integrations'] as const
const envelopeFields = new JsonFields(ENVELOPE_FIELDS)
const ENVELOPE = fieldNumbers(ENVELOPE_FIELDS)

const OPEN_BRACE = 0x7b
const OPEN_BRACKET = 0x5b

/** The body of a path that takes one message. */
export function scanSingle(bytes: Buffer, valuesMax: number): ScannedMessages {
  return scan(bytes, valuesMax, (scanner, into) => {
    const message = new ScannedMessage(scanner.at)
    scanMessage(scanner, message)
    into.messages.push(message)
  })
}

/** The body of a path that takes a batch, of at most `messagesMax`. */
export function scanBatch(bytes: Buffer, messagesMax: number, valuesMax: number): ScannedMessages {
  return scan(bytes, valuesMax, (scanner, into) => {
    let hasBatch = false
    if (scanner.enterObject()) {
      let field = scanner.seek(envelopeFields, false)
      while (field >= 0) {
        switch (field) {
          case ENVELOPE.batch:
            // Of repeated members the last one counts.
            into.messages.length = 0
            hasBatch = scanner.peek() === OPEN_BRACKET
            if (hasBatch) scanMessages(scanner, into.messages, messagesMax)
            else scanner.skip()
            break
          case ENVELOPE.writeKey:
            into.writeKey = scanner.pick()
            break
          case ENVELOPE.sentAt:
            into.sentAt = scanner.pick()
            break
          case ENVELOPE.context:
            into.context = pickShared(scanner, into)
            break
          case ENVELOPE.integrations:
            into.integrations = pickShared(scanner, into)
            break
        }
        field = scanner.seek(envelopeFields, true)
      }
    }
    if (!hasBatch) throw captureError('HR_CAPTURE_WRONG_SHAPE', 'the body has no `batch` that is a list')
  })
}

function scan(
  bytes: Buffer,
  valuesMax: number,
  read: (scanner: JsonScanner, into: ScannedMessages) => void,
): ScannedMessages {
  const into: ScannedMessages = {
    messages: [],
    writeKey: undefined,
    sentAt: undefined,
    context: undefined,
    integrations: undefined,
    sharedDepth: 0,
  }
  try {
    const scanner = new JsonScanner(bytes, valuesMax)
    if (scanner.peek() === OPEN_BRACE) {
      read(scanner, into)
      scanner.finish()
    } else {
      scanner.skip()
      scanner.finish()
      throw captureError('HR_CAPTURE_WRONG_SHAPE', 'the body is not a JSON object')
    }
  } catch (error) {
    throw scanRefusal(error, bytes.length)
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
    scanner.keys = 0
    if (isObject) scanMessage(scanner, message)
    else scanner.skip()
    message.end = scanner.at
    messages.push(message)
  } while (scanner.nextElement())
}

function scanMessage(scanner: JsonScanner, into: ScannedMessage): void {
  if (scanner.enterObject()) {
    let field = seekMember(scanner, messageFields, false, into, 1)
    while (field >= 0) {
      if (field === MESSAGE.context) {
        into.contextGroupId = undefined
        if (scanner.peek() === OPEN_BRACE) scanContext(scanner, into)
        else skipMember(scanner, into, 1)
      } else keep(into, field, pickMember(scanner, into, 1))
      field = seekMember(scanner, messageFields, true, into, 1)
    }
  }
  into.end = scanner.at
  into.keys = scanner.keys
}

function keep(into: ScannedMessage, field: number, value: JsonPick): void {
  switch (field) {
    case MESSAGE.type:
      into.type = value
      break
    case MESSAGE.userId:
      into.userId = value
      break
    case MESSAGE.anonymousId:
      into.anonymousId = value
      break
    case MESSAGE.previousId:
      into.previousId = value
      break
    case MESSAGE.groupId:
      into.groupId = value
      break
    case MESSAGE.messageId:
      into.messageId = value
      break
    case MESSAGE.sentAt:
      into.sentAt = value
      break
    case MESSAGE.writeKey:
      into.writeKey = value
      break
  }
}

function scanContext(scanner: JsonScanner, into: ScannedMessage): void {
  if (into.depth < 2) into.depth = 2
  if (!scanner.enterObject()) return
  let field = seekMember(scanner, contextFields, false, into, 2)
  while (field >= 0) {
    into.contextGroupId = pickMember(scanner, into, 2)
    field = seekMember(scanner, contextFields, true, into, 2)
  }
}
