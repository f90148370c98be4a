/**
 * Options of a target as its file reads them: one call per option, one sentence per mistake, and whatever was not asked for
 * is refused at the end. A text may be `{"secret": "<name>"}`; the secret is put in its place before a target sees it.
 */
import { deliverError } from './errors.ts'

export class Options {
  private readonly asked = new Set<string>()

  constructor(
    private readonly kind: string,
    private readonly values: Record<string, unknown>,
  ) {}

  text(key: string, otherwise?: string): string {
    const value = this.take(key) ?? otherwise
    if (typeof value === 'string' && value !== '') return value
    throw this.invalid(key, 'a text')
  }

  optionalText(key: string): string | undefined {
    const value = this.take(key)
    if (value === undefined || value === null) return undefined
    if (typeof value === 'string') return value
    throw this.invalid(key, 'a text')
  }

  choice<const C extends readonly string[]>(key: string, choices: C, otherwise: C[number]): C[number] {
    const value = this.take(key) ?? otherwise
    const found = choices.find((one) => one === value)
    if (found !== undefined) return found
    throw this.invalid(key, `one of ${choices.join(', ')}`)
  }

  whole(key: string, from: number, to: number, otherwise: number): number {
    const value = this.take(key) ?? otherwise
    if (typeof value === 'number' && Number.isInteger(value) && value >= from && value <= to) return value
    throw this.invalid(key, `a whole number from ${from} to ${to}`)
  }

  /** http or https, without a user in it. */
  url(key: string, otherwise?: string): string {
    const text = this.text(key, otherwise)
    const url = URL.parse(text)
    if (url && /^https?:$/.test(url.protocol) && url.username === '' && url.password === '') return url.href
    throw this.invalid(key, 'an http or https URL without a user name in it')
  }

  texts(key: string): Record<string, string> {
    const value = this.take(key) ?? {}
    if (
      typeof value === 'object' &&
      value !== null &&
      Object.values(value).every((one) => typeof one === 'string')
    )
      return value as Record<string, string>
    throw this.invalid(key, 'an object of texts')
  }

  any(key: string): unknown {
    return this.take(key)
  }

  /** Throws HR_DESTINATION_INVALID when there are options that nobody asked for. */
  done(): void {
    const rest = Object.keys(this.values).find((key) => !this.asked.has(key))
    if (rest !== undefined)
      throw deliverError(
        'HR_DESTINATION_INVALID',
        `options.${rest} is not known to a ${this.kind}; allowed are ${[...this.asked].join(', ')}`,
      )
  }

  private take(key: string): unknown {
    this.asked.add(key)
    return this.values[key]
  }

  invalid(key: string, allowed: string) {
    return deliverError('HR_DESTINATION_INVALID', `options.${key} of a ${this.kind} must be ${allowed}`)
  }
}

/** Puts secrets in their places. Throws HR_DESTINATION_INVALID when one is named that there is not. */
export function withSecrets(options: unknown, secrets: Readonly<Record<string, string>>): unknown {
  if (Array.isArray(options)) return options.map((one) => withSecrets(one, secrets))
  if (typeof options !== 'object' || options === null) return options
  const entries = Object.entries(options)
  if (entries.length === 1 && entries[0]![0] === 'secret' && typeof entries[0]![1] === 'string') {
    const name = entries[0]![1]
    const value = Object.hasOwn(secrets, name) ? secrets[name] : undefined
    if (value === undefined)
      throw deliverError(
        'HR_DESTINATION_INVALID',
        `there is no secret "${name}"; give it with --secret ${name}=…`,
      )
    return value
  }
  return Object.fromEntries(entries.map(([key, one]) => [key, withSecrets(one, secrets)]))
}
