/** Waits for a condition, with a deadline; tests never sleep for a time that somebody guessed. */
import { setTimeout as delay } from 'node:timers/promises'

const LOOK_AGAIN_MS = 50

/** Resolves when `holds` is true; rejects after `withinMs` with `what` and whatever `context` says. */
export async function waitFor(
  what: string,
  holds: () => boolean | Promise<boolean>,
  withinMs: number,
  context: () => string = () => '',
): Promise<void> {
  const deadline = performance.now() + withinMs
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`no ${what} within ${withinMs} ms: ${context()}`)
    await delay(LOOK_AGAIN_MS)
  }
}
