/**
 * The little that an HTTP front must know of SQL text: where an INSERT's data begins and in which format, whether a
 * text holds more than one statement, which format a query asks for. In: the text of a request. Out: positions.
 * It skips strings, quoted names, comments and brackets as ClickHouse's lexer does and understands nothing else:
 * the engine is the parser. Cost: one pass over the head of an INSERT, or over the whole text of a query.
 */

export type Token = {
  readonly text: string
  readonly start: number
  readonly end: number
  readonly depth: number
}

const WORD = /[A-Za-z_$0-9\u0080-\uffff]/
const SPACE = /\s/

/** The tokens of `sql` from `from`; words, quoted things and single signs. An open quote runs to the end. */
export function* tokens(sql: string, from = 0): Generator<Token> {
  let at = from
  let depth = 0
  while (at < sql.length) {
    const char = sql[at]!
    const start = at
    if (SPACE.test(char)) {
      at++
      continue
    }
    if (sql.startsWith('--', at) || sql.startsWith('#!', at) || sql.startsWith('# ', at)) {
      const end = sql.indexOf('\n', at)
      at = end < 0 ? sql.length : end + 1
      continue
    }
    if (sql.startsWith('/*', at)) {
      const end = sql.indexOf('*/', at + 2)
      at = end < 0 ? sql.length : end + 2
      continue
    }
    if (char === "'" || char === '"' || char === '`') at = quotedEnd(sql, at, char)
    else if (char === '$' && heredocEnd(sql, at) > at) at = heredocEnd(sql, at)
    else if (WORD.test(char)) while (at < sql.length && WORD.test(sql[at]!)) at++
    else at++
    if (char === ')' || char === ']' || char === '}') depth--
    yield { text: sql.slice(start, at), start, end: at, depth }
    if (char === '(' || char === '[' || char === '{') depth++
  }
}

function quotedEnd(sql: string, start: number, quote: string): number {
  let at = start + 1
  while (at < sql.length) {
    if (sql[at] === '\\') at += 2
    else if (sql[at] === quote && sql[at + 1] === quote) at += 2
    else if (sql[at] === quote) return at + 1
    else at++
  }
  return sql.length
}

/** `$tag$ … $tag$`; `start` when there is none. */
function heredocEnd(sql: string, start: number): number {
  const tag = /^\$\w*\$/.exec(sql.slice(start, start + 64))?.[0]
  if (tag === undefined) return start
  const end = sql.indexOf(tag, start + tag.length)
  return end < 0 ? start : end + tag.length
}

export type InsertHead = {
  /** Text up to where `FROM INFILE …` belongs: before SETTINGS or FORMAT. */
  readonly target: string
  /** `SETTINGS …` of the statement, or empty. */
  readonly settings: string
  readonly format: string
  /** Index in the text at which data begins. */
  readonly dataStart: number
}

/**
 * The head of an INSERT that brings data; undefined for every other text (also INSERT … SELECT, and one that reads
 * a file itself). `undefined` for an INSERT whose head does not end within `sql`, too.
 */
export function insertHead(sql: string): InsertHead | undefined {
  let first = true
  let settingsStart = -1
  let formatNext = false
  let bodyStart = -1
  for (const token of tokens(sql)) {
    const word = token.text.toUpperCase()
    if (first) {
      if (word !== 'INSERT') return undefined
      first = false
      continue
    }
    if (formatNext) {
      const target = sql.slice(0, bodyStart).trimEnd()
      const settings = settingsStart < 0 ? '' : sql.slice(settingsStart, bodyStart).trimEnd()
      return {
        target: settingsStart < 0 ? target : sql.slice(0, settingsStart).trimEnd(),
        settings,
        format: token.text,
        dataStart: skipLineEnd(sql, token.end),
      }
    }
    if (token.depth > 0) continue
    if (word === 'SELECT' || word === 'WITH' || word === 'INFILE' || word === 'WATCH' || word === 'EXPLAIN')
      return undefined
    if (word === 'SETTINGS' && settingsStart < 0) settingsStart = token.start
    if (word === 'FORMAT') {
      formatNext = true
      bodyStart = token.start
    }
    if (word === 'VALUES') {
      const cut = settingsStart < 0 ? token.start : settingsStart
      return {
        target: sql.slice(0, cut).trimEnd(),
        settings: settingsStart < 0 ? '' : sql.slice(settingsStart, token.start).trimEnd(),
        format: 'Values',
        dataStart: skipLineEnd(sql, token.end),
      }
    }
  }
  return undefined
}

/** As ClickHouse does it: blanks and at most one line end separate the format's name from the data. */
function skipLineEnd(sql: string, from: number): number {
  let at = from
  while (sql[at] === ' ' || sql[at] === '\t' || sql[at] === '\f') at++
  if (sql[at] === '\r') at++
  if (sql[at] === '\n') at++
  return at
}

export type QueryShape = {
  /** First word of the statement, upper case. */
  readonly verb: string
  /** The format that the text asks for at its end, if it does. */
  readonly format: string | undefined
  /** More than one statement: refused, as ClickHouse's HTTP interface does. */
  readonly multiple: boolean
  /** It changes the session (SET, USE, temporary tables), which must not outlive the request. */
  readonly changesSession: boolean
  /** Where the statement ends, without a trailing semicolon. */
  readonly end: number
}

/** What an HTTP front must know of a statement that brings no data. */
export function queryShape(sql: string): QueryShape {
  let verb = ''
  let second = ''
  let previous = ''
  let format: string | undefined
  let end = -1
  let last = 0
  let multiple = false
  for (const token of tokens(sql)) {
    if (token.text === ';' && token.depth <= 0) {
      if (end < 0) end = token.start
      continue
    }
    if (end >= 0) {
      multiple = true
      break
    }
    last = token.end
    const word = token.text.toUpperCase()
    if (verb === '' && word !== '(') verb = word
    else if (second === '') second = word
    if (token.depth <= 0 && previous === 'FORMAT') format = token.text
    previous = token.depth <= 0 ? word : ''
  }
  const changesSession =
    verb === 'SET' || verb === 'USE' || verb === 'BEGIN' || (verb === 'CREATE' && second === 'TEMPORARY')
  return { verb, format, multiple, changesSession, end: end < 0 ? last : end }
}

/** A ClickHouse string literal. */
export function quoteString(value: string): string {
  return `'${value.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`
}

/** A ClickHouse identifier in backquotes. */
export function quoteName(name: string): string {
  return `\`${name.replaceAll('\\', '\\\\').replaceAll('`', '\\`')}\``
}
