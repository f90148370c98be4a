/**
 * The command line, and with it the wiring: the only place besides `src/supervisor/` that knows every room. One file
 * per verb; a verb loads the rooms that it needs when it runs, so that `headrace --help` and each role stay small.
 */
export { runCli } from './program.ts'
