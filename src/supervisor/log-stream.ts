/**
 * One readable stream of what all roles say. In: their standard output and error, byte by byte. Out: one line each,
 * with the role's name; on a terminal coloured, with `json` every line as one JSON object. A line that is not one of
 * our JSON messages (a crash of the runtime, the engine's own words) is kept as it is.
 * A line may have 64 KiB; what is longer is cut there, so that a runaway message cannot fill the memory.
 */
const LINE_CHARS_MAX = 65_536

const LEVELS: Record<number, string> = {
  10: 'trace',
  20: 'debug',
  30: 'info',
  40: 'warn',
  50: 'error',
  60: 'fatal',
}
const LEVEL_COLOURS: Record<string, number> = { warn: 33, error: 31, fatal: 31, debug: 90, trace: 90 }
const ROLE_COLOURS: Record<string, number> = {
  supervisor: 36,
  capture: 32,
  ingest: 35,
  load: 34,
  warehouse: 33,
  postgres: 90,
}
const OMITTED = new Set(['level', 'time', 'role', 'msg', 'pid', 'hostname'])

export type LogFormat = { json: boolean; colour: boolean }

/** One line of a role, without its line break, as it is printed. */
export function formatLine(role: string, line: string, format: LogFormat): string {
  const message = parseMessage(line)
  if (format.json) {
    if (message) return line
    return JSON.stringify({ level: 40, time: new Date().toISOString(), role, msg: line })
  }
  const paint = (colour: number | undefined, text: string) =>
    format.colour && colour !== undefined ? `\x1b[${colour}m${text}\x1b[0m` : text
  const name = paint(ROLE_COLOURS[role], role.padEnd(10))
  if (!message) return `${' '.repeat(12)} ${name}       ${line}`
  const level = LEVELS[Number(message.level)] ?? 'info'
  const time = String(message.time ?? '').slice(11, 23)
  const rest = Object.entries(message)
    .filter(([key]) => !OMITTED.has(key))
    .map(([key, value]) => ` ${key}=${formatValue(value)}`)
    .join('')
  return `${time.padEnd(12)} ${name} ${paint(LEVEL_COLOURS[level], level.padEnd(5))} ${oneLine(message.msg)}${paint(90, rest)}`
}

/** Words of a server or a query may come with line breaks of their own. */
function oneLine(text: unknown): string {
  return String(text ?? '').replace(/\s*\n\s*/g, ' ')
}

function formatValue(value: unknown): string {
  if (typeof value === 'string') return /^[\w.:/@%+-]+$/.test(value) ? value : JSON.stringify(value)
  if (typeof value === 'object' && value !== null && 'message' in value) {
    const { code, message } = value as { code?: unknown; message: unknown }
    return JSON.stringify(code === undefined ? String(message) : `${code}: ${message}`)
  }
  return JSON.stringify(value)
}

function parseMessage(line: string): Record<string, unknown> | undefined {
  if (!line.startsWith('{')) return undefined
  try {
    const value: unknown = JSON.parse(line)
    return typeof value === 'object' && value !== null && 'msg' in value
      ? (value as Record<string, unknown>)
      : undefined
  } catch {
    return undefined
  }
}

/** Splits a byte stream into lines and gives each to `onLine`; resolves at its end. */
export async function readLines(
  stream: ReadableStream<Uint8Array>,
  onLine: (line: string) => void,
): Promise<void> {
  const decoder = new TextDecoder()
  let rest = ''
  for await (const chunk of stream) {
    rest += decoder.decode(chunk, { stream: true })
    for (let end = rest.indexOf('\n'); end >= 0; end = rest.indexOf('\n')) {
      emit(rest.slice(0, end))
      rest = rest.slice(end + 1)
    }
    if (rest.length > LINE_CHARS_MAX) {
      emit(rest)
      rest = ''
    }
  }
  if (rest !== '') emit(rest)

  function emit(line: string): void {
    const clean = line.endsWith('\r') ? line.slice(0, -1) : line
    if (clean !== '') onLine(clean.length > LINE_CHARS_MAX ? `${clean.slice(0, LINE_CHARS_MAX)}…` : clean)
  }
}
