/** The answer to a request of which every event is refused: an error, with the first of them in its sentence. */
import { type Answer, captureError, errorAnswer, type Rejection } from './errors.ts'

/** `called` is what the protocol calls an event; `rejected` holds one at least. */
export function nothingStored(rejected: readonly Rejection[], called: 'event' | 'message'): Answer {
  const { index, field, message } = rejected[0]!
  const where = field === '' ? `${called} ${index}` : `${called} ${index}, field ${field}`
  const tail = rejected.length > 1 ? `; nor could the other ${rejected.length - 1} be stored` : ''
  const code = rejected.every(({ reason }) => reason === 'event_too_large')
    ? 'HR_CAPTURE_EVENT_TOO_LARGE'
    : 'HR_CAPTURE_NOTHING_STORED'
  return errorAnswer(captureError(code, `${where}: ${message}${tail}`), rejected)
}
