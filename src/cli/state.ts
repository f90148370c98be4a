/** What verbs that only read or change the state have in common. */
import { Context } from './context.ts'
import { type DeploymentFlags, settingsOf } from './options.ts'

/** Runs `work` on the state of the deployment, brought to this version. Throws HR_CLI_UNREACHABLE. */
export async function withState<T>(
  flags: DeploymentFlags,
  name: string,
  work: (context: Context) => Promise<T>,
): Promise<T> {
  const context = new Context(settingsOf(flags), name, 1)
  try {
    context.requireRunning()
    await context.prepareState()
    return await work(context)
  } finally {
    await context.close()
  }
}
