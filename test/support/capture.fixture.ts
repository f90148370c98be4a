/**
 * A capture in a process of its own, on an embedded log, so that its memory, CPU and open files are its alone. Settings
 * come as JSON in the first argument, the url goes out in one line; it stops when its input ends, and its exit code is
 * the number of errors that would have stopped it.
 */
import type { Settings } from '../../src/catalog/index.ts'
import { startTestCapture } from './capture.ts'

const capture = await startTestCapture(JSON.parse(process.argv[2] ?? '{}') as Partial<Settings>)
process.stdout.write(`${capture.url}\n`)
process.stdin.on('end', () => void capture.stop().then(() => process.exit(capture.fatal.length)))
process.stdin.resume()
