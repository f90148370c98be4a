/**
 * The one error type. `class` decides what the caller does (architecture: failure classes):
 * `retriable` = the world is at fault: wait, back off, keep the data; `rejected` = this input is at fault:
 * dead letter or 4xx, go on; `fatal` = we are at fault: stop the process with one sentence.
 * Anything that is not a HeadraceError counts as fatal, never swallowed.
 */
export type ErrorClass = 'retriable' | 'rejected' | 'fatal'

/** One row of an area's error table. `docs` is the anchor in the generated error reference. */
export type ErrorSpec = { readonly class: ErrorClass; readonly status?: number; readonly meaning: string }

export class HeadraceError extends Error {
  readonly code: string
  readonly class: ErrorClass
  /** HTTP status for errors that a client sees. */
  readonly status: number | undefined

  constructor(code: string, spec: ErrorSpec, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.name = 'HeadraceError'
    this.code = code
    this.class = spec.class
    this.status = spec.status
  }
}

/**
 * Binds an area's table, so that an unknown code does not compile:
 * `const fail = errorTable({ HR_LOG_CLOSED: {…} }); throw fail('HR_LOG_CLOSED', 'the log is closed')`.
 */
export function errorTable<const T extends Record<string, ErrorSpec>>(table: T) {
  return (code: keyof T & string, message: string, cause?: unknown): HeadraceError =>
    new HeadraceError(code, table[code]!, message, cause)
}

/** True when waiting and trying again can help. */
export function isRetriable(error: unknown): boolean {
  return error instanceof HeadraceError && error.class === 'retriable'
}

/** True when this one input is at fault. */
export function isRejected(error: unknown): boolean {
  return error instanceof HeadraceError && error.class === 'rejected'
}
