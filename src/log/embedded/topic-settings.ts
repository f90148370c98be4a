/** The settings of a topic as they are stored, with its log id; written once, when the topic is made. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { logError } from '../errors.ts'
import type { TopicState } from '../log.ts'
import { checkName, type Layout, writeDurably } from './layout.ts'

const FILE = 'topic.json'

/** The settings of a topic as stored; undefined when there is none of that name. */
export function readTopic(layout: Layout, name: string): TopicState | undefined {
  checkName('topic', name)
  try {
    return JSON.parse(readFileSync(join(layout.topic(name), FILE), 'utf8')) as TopicState
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw logError('HR_LOG_CORRUPT', `the settings of topic ${name} cannot be read`, error)
  }
}

/** Stores the settings in the folder of a topic that is not visible yet. */
export function writeTopic(folder: string, state: TopicState): void {
  writeDurably(join(folder, FILE), Buffer.from(`${JSON.stringify(state, undefined, 2)}\n`))
}
