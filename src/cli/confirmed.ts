/** The question in front of what cannot be undone. */
import { createInterface } from 'node:readline/promises'

/** Whether somebody sits at the terminal and says yes; where nobody does, only --yes does it. */
export async function confirmed(question: string): Promise<boolean> {
  if (!process.stdin.isTTY || !process.stdout.isTTY) {
    process.stdout.write('nothing is changed without --yes\n')
    return false
  }
  const terminal = createInterface({ input: process.stdin, output: process.stdout })
  const answer = await terminal.question(`${question} [y/N] `)
  terminal.close()
  return /^y(es)?$/i.test(answer.trim())
}
