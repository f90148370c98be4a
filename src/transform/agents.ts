/** What the name of a browser says, remembered: names are few and long, and reading one takes 5 to 50 µs. */
import { isbot } from 'isbot'

const REMEMBERED_MAX = 10_000

/** `read`, with what it said of the last texts. Forgets all when there are too many: cheaper than knowing which. */
export function remembered<Result>(read: (text: string) => Result): (text: string) => Result {
  const known = new Map<string, Result>()
  return (text) => {
    const found = known.get(text)
    if (found !== undefined || known.has(text)) return found as Result
    const result = read(text)
    if (known.size >= REMEMBERED_MAX) known.clear()
    known.set(text, result)
    return result
  }
}

const AGENT_UNITS_MAX = 1_000

export const isBotName = remembered((name: string) => isbot(name.slice(0, AGENT_UNITS_MAX)))
