/** What a verb answers, on standard output. */
export function write(text: string): void {
  process.stdout.write(`${text}\n`)
}
