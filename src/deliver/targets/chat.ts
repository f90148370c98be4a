/**
 * Slack and Discord: one message per event to an incoming webhook. `text` is a template. Slack answers `ok`; both ask to wait
 * with 429. The URL is a secret: whoever has it can post.
 */
import { Options } from '../options.ts'
import { compileTemplate } from '../template.ts'
import { httpTarget, JSON_HEADERS } from './http-target.ts'
import type { TargetKind } from './target.ts'

const TEXT_DEFAULT = '{event} by {distinct_id}'
/** Discord refuses longer ones; Slack cuts at 40,000. */
const TEXT_MAX = { slack: 3_000, discord: 2_000 } as const

function chat(kind: keyof typeof TEXT_MAX, body: (text: string) => Record<string, unknown>): TargetKind {
  return {
    kind,
    defaults: { url: { secret: 'url' } },
    open(values, context) {
      const options = new Options(kind, values)
      const url = options.url('url')
      const render = compileTemplate(options.text('text', TEXT_DEFAULT))
      options.done()
      return httpTarget(context, {
        batchMax: 1,
        request([delivery]) {
          const text = String(render(delivery!.view.fields) ?? '').slice(0, TEXT_MAX[kind])
          return { url, headers: JSON_HEADERS, body: JSON.stringify(body(text)) }
        },
      })
    },
  }
}

export const SLACK = chat('slack', (text) => ({ text }))
/** Nobody is called by what an event holds. */
export const DISCORD = chat('discord', (content) => ({ content, allowed_mentions: { parse: [] } }))
