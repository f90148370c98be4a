/**
 * Standard Webhooks signatures: HMAC-SHA256 of `id.timestamp.body` under each secret, so that a receiver that knows the old
 * one or the new one verifies while a secret is changed. A secret is `whsec_` and 24 to 64 bytes in base64.
 */
import { randomBytes } from 'node:crypto'
import { deliverError } from '../errors.ts'

const PREFIX = 'whsec_'
const BYTES_MIN = 24
const BYTES_MAX = 64
const SECRETS_MAX = 4

export class Signer {
  private readonly keys: Buffer[]

  /** Several secrets are separated by a space, the newest first. Throws HR_DESTINATION_INVALID. */
  constructor(secrets: string) {
    const texts = secrets.split(' ').filter((text) => text !== '')
    if (texts.length > SECRETS_MAX)
      throw deliverError('HR_DESTINATION_INVALID', `at most ${SECRETS_MAX} signing secrets at once`)
    this.keys = texts.map(readSecret)
  }

  headers(id: string, timestampS: number, body: string): Record<string, string> {
    const signatures = this.keys.map((key) => {
      const mac = new Bun.CryptoHasher('sha256', key).update(`${id}.${timestampS}.${body}`).digest('base64')
      return `v1,${mac}`
    })
    return {
      'webhook-id': id,
      'webhook-timestamp': String(timestampS),
      ...(signatures.length > 0 ? { 'webhook-signature': signatures.join(' ') } : {}),
    }
  }
}

export function newSigningSecret(): string {
  return `${PREFIX}${randomBytes(BYTES_MIN).toString('base64')}`
}

function readSecret(text: string): Buffer {
  const key = text.startsWith(PREFIX) ? Buffer.from(text.slice(PREFIX.length), 'base64') : Buffer.alloc(0)
  if (key.length >= BYTES_MIN && key.length <= BYTES_MAX) return key
  throw deliverError(
    'HR_DESTINATION_INVALID',
    `a signing secret is ${PREFIX} and ${BYTES_MIN} to ${BYTES_MAX} bytes as base64`,
  )
}
