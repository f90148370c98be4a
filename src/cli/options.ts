/** The flags that say which deployment a verb is about; they win over the environment. */

import { resolve } from 'node:path'
import { type Command, InvalidArgumentError } from 'commander'
import { readSettings, type Settings } from '../catalog/index.ts'

export type DeploymentFlags = {
  log?: string
  postgres?: string
  clickhouse?: string
  dataDir?: string
}

export function withDeployment(command: Command): Command {
  return command
    .option('--log <log>', 'embedded, or kafka://host:port,host:port (HEADRACE_LOG)')
    .option('--postgres <url>', 'embedded, or postgres://… (HEADRACE_POSTGRES)')
    .option('--clickhouse <url>', 'embedded, or http(s)://… (HEADRACE_CLICKHOUSE)')
    .option('--data-dir <path>', 'folder of the embedded parts (HEADRACE_DATA_DIR)')
}

/** Settings of the environment and the flags. Throws HR_SETTING_INVALID. The data folder comes back as a full path. */
export function settingsOf(flags: DeploymentFlags): Settings {
  const overrides: Partial<Settings> = {}
  for (const key of ['log', 'postgres', 'clickhouse', 'dataDir'] as const) {
    const value = flags[key]
    if (value !== undefined) overrides[key] = value
  }
  const settings = readSettings(process.env, overrides)
  return { ...settings, dataDir: resolve(settings.dataDir) }
}

export function parseCount(text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new InvalidArgumentError('a whole number from 1 is needed')
  return Number(text)
}
