/**
 * Secrets of destinations at rest: AES-256-GCM, bound to the destination's id, so that a sealed text copied into
 * another row does not open. In: names and values. Out: one text `v1.<key>.<nonce>.<sealed>`; `<key>` are eight hex
 * digits of the key's hash, so that a wrong key is told from damage. The key is a setting, or a file that the first
 * process makes in the data folder; whoever has neither reads nothing.
 */
import { createHash, randomBytes } from 'node:crypto'
import {
  closeSync,
  existsSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  writeSync,
} from 'node:fs'
import { dirname } from 'node:path'
import { deliverError } from './errors.ts'

const KEY_BYTES = 32
const NONCE_BYTES = 12

export class SecretBox {
  private readonly fingerprint: string
  private imported: Promise<CryptoKey> | undefined

  constructor(private readonly key: Uint8Array) {
    this.fingerprint = createHash('sha256').update(key).digest('hex').slice(0, 8)
  }

  async seal(destinationId: string, secrets: Record<string, string>): Promise<string> {
    const nonce = randomBytes(NONCE_BYTES)
    const sealed = await crypto.subtle.encrypt(
      { name: 'AES-GCM', iv: nonce, additionalData: Buffer.from(destinationId) },
      await this.cryptoKey(),
      Buffer.from(JSON.stringify(secrets)),
    )
    return `v1.${this.fingerprint}.${nonce.toString('base64url')}.${Buffer.from(sealed).toString('base64url')}`
  }

  /** Throws HR_SECRET_KEY. */
  async open(destinationId: string, text: string): Promise<Record<string, string>> {
    const [version, fingerprint, nonce, sealed] = text.split('.')
    if (version !== 'v1' || !nonce || !sealed)
      throw deliverError(
        'HR_SECRET_KEY',
        `the secrets of destination ${destinationId} are not in a form of this version`,
      )
    if (fingerprint !== this.fingerprint)
      throw deliverError(
        'HR_SECRET_KEY',
        `the secrets of destination ${destinationId} were sealed with key ${fingerprint}, this process has ${this.fingerprint}; give every process the same HEADRACE_SECRET_KEY`,
      )
    try {
      const plain = await crypto.subtle.decrypt(
        { name: 'AES-GCM', iv: Buffer.from(nonce, 'base64url'), additionalData: Buffer.from(destinationId) },
        await this.cryptoKey(),
        Buffer.from(sealed, 'base64url'),
      )
      return JSON.parse(Buffer.from(plain).toString('utf8')) as Record<string, string>
    } catch (cause) {
      throw deliverError('HR_SECRET_KEY', `the secrets of destination ${destinationId} are damaged`, cause)
    }
  }

  private cryptoKey(): Promise<CryptoKey> {
    this.imported ??= crypto.subtle.importKey('raw', Buffer.from(this.key), 'AES-GCM', false, [
      'encrypt',
      'decrypt',
    ])
    return this.imported
  }
}

/** The key of the setting, or else of the file, which is made when it is not there. Throws HR_SECRET_KEY. */
export function openSecretBox(setting: string, file: string): SecretBox {
  const text = setting === '' ? readOrMake(file) : setting
  const key = Buffer.from(text.trim(), 'base64')
  if (key.length === KEY_BYTES) return new SecretBox(key)
  const where = setting === '' ? `file ${file}` : 'HEADRACE_SECRET_KEY'
  throw deliverError(
    'HR_SECRET_KEY',
    `${where} does not hold ${KEY_BYTES} bytes as base64 (openssl rand -base64 32)`,
  )
}

/** Whole or not at all, and never over one that another process has just made: a link fails when its name is taken. */
function readOrMake(file: string): string {
  if (!existsSync(file)) {
    mkdirSync(dirname(file), { recursive: true })
    const mine = `${file}.${process.pid}.new`
    const fd = openSync(mine, 'w', 0o600)
    try {
      writeSync(fd, `${randomBytes(KEY_BYTES).toString('base64')}\n`)
      fsyncSync(fd)
    } finally {
      closeSync(fd)
    }
    try {
      linkSync(mine, file)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    } finally {
      rmSync(mine, { force: true })
    }
  }
  return readFileSync(file, 'utf8')
}

/** What people see instead of a secret: enough to tell two apart, too little to use. */
export function maskSecret(value: string): string {
  return value.length < 12 ? '••••' : `••••${value.slice(-4)}`
}
