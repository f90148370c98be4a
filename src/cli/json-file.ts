/** Reads the JSON that a flag of a verb names: a file, or - for standard input. */
import { readFile } from 'node:fs/promises'
import { cliError } from './errors.ts'

/** Throws HR_CLI_ARGUMENT, which names `flag`. */
export async function readJsonFile(flag: string, file: string): Promise<unknown> {
  let text: string
  try {
    text = file === '-' ? await Bun.stdin.text() : await readFile(file, 'utf8')
  } catch (error) {
    throw cliError('HR_CLI_ARGUMENT', `${flag} names "${file}", which cannot be read`, error)
  }
  try {
    return JSON.parse(text)
  } catch (error) {
    throw cliError('HR_CLI_ARGUMENT', `${flag}: not JSON: ${(error as Error).message}`, error)
  }
}
