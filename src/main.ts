/** The program: hands its arguments to the command line (`src/cli/`), which wires everything else. */
import { runCli } from './cli/index.ts'

process.exitCode = await runCli(process.argv.slice(2))
