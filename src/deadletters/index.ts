/**
 * Dead letters: events that reached their end in table `dead_letters`, with the bytes that the client sent. What may be
 * done about them: look (`letters.ts`, `survey.ts`, `show.ts`), discard (`decisions.ts`), and send again through ingestion
 * (`jobs.ts` is the order, `replayer.ts` the work, in a capture process). Whatever is decided, the dead letter stays
 * the end state of its raw offset, so that the ledger adds up; an event that is sent again is a raw record of its own.
 */
export { adviceOf } from './advice.ts'
export { discardLetters, readDecisions } from './decisions.ts'
export {
  formatShown,
  groupTable,
  indentJson,
  jobTable,
  letterTable,
  shownJson,
  surveyJson,
} from './format.ts'
export { JOB_LETTERS_MAX, type JobStatus, jobStatus, planJob, resumeJob, stopJob } from './jobs.ts'
export {
  type Decision,
  LETTER_STATES,
  type Letter,
  type LetterFilter,
  type LetterKey,
  type LetterState,
} from './letter.ts'
export { type LetterDeps, selectLetters } from './letters.ts'
export { Replayer, type ReplayerDeps, type ReplayStep } from './replayer.ts'
export { type ShownLetter, showLetters } from './show.ts'
export { type LetterGroup, type Survey, survey } from './survey.ts'
