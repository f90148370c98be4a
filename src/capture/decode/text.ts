/**
 * Takes text off a payload: a form's `data=` field and base64, as sendBeacon and old clients wrap their JSON or their
 * gzip. Pure functions from bytes to bytes, so that nothing is lost to a detour over characters.
 */

const AMPERSAND = 0x26
const EQUALS = 0x3d
const PERCENT = 0x25
const PLUS = 0x2b
const SPACE = 0x20

/** First fields of the forms that SDKs send. */
const KNOWN_FORM = /^(data|compression|ver|lib_version|ip|_)=/
/** How far the field that matters may stand from the beginning when the first one is not known. */
const FORM_PROBE_BYTES = 512
/** Fields of a form that are looked at; SDKs send at most six. */
const FORM_FIELDS_MAX = 64
const BASE64_PROBE_BYTES = 128
/** With spaces, which a `+` may have become on its way through a form. */
const BASE64 = /^[A-Za-z0-9+/_ -]+={0,2}$/

const HEX_VALUE = new Int8Array(256).fill(-1)
for (let digit = 0; digit < 16; digit++) {
  HEX_VALUE[digit.toString(16).charCodeAt(0)] = digit
  HEX_VALUE[digit.toString(16).toUpperCase().charCodeAt(0)] = digit
}

/** True when `text`, which is no JSON, begins like a form. Base64 does not: it has no `&`, and `=` only at its end. */
export function isForm(text: Buffer): boolean {
  const probe = text.toString('latin1', 0, FORM_PROBE_BYTES)
  return KNOWN_FORM.test(probe) || probe.includes('&data=')
}

/** The bytes of field `name`, without their percent signs; undefined when the first 64 fields have none of that name. */
export function formField(form: Buffer, name: string): Buffer | undefined {
  let at = 0
  for (let field = 0; field < FORM_FIELDS_MAX && at <= form.length; field++) {
    const next = form.indexOf(AMPERSAND, at)
    const end = next < 0 ? form.length : next
    if (form[at + name.length] === EQUALS && form.toString('latin1', at, at + name.length) === name) {
      return percentDecoded(form, at + name.length + 1, end)
    }
    at = end + 1
  }
  return undefined
}

/** `+` is a space in forms; what is no escape stands for itself, as browsers read it. */
function percentDecoded(bytes: Buffer, start: number, end: number): Buffer {
  const decoded = Buffer.allocUnsafe(end - start)
  let to = 0
  for (let at = start; at < end; at++) {
    const byte = bytes[at]!
    if (byte === PERCENT && at + 2 < end) {
      const high = HEX_VALUE[bytes[at + 1]!]!
      const low = HEX_VALUE[bytes[at + 2]!]!
      if (high >= 0 && low >= 0) {
        decoded[to++] = (high << 4) | low
        at += 2
        continue
      }
    }
    decoded[to++] = byte === PLUS ? SPACE : byte
  }
  return decoded.subarray(0, to)
}

/** What `text` is the base64 of, standard or URL-safe, padded or not; undefined when it does not look like base64. */
export function base64Decoded(text: Buffer): Buffer | undefined {
  if (!BASE64.test(text.toString('latin1', 0, BASE64_PROBE_BYTES).trimEnd())) return undefined
  const characters = text.toString('latin1')
  return Buffer.from(text.includes(SPACE) ? characters.replaceAll(' ', '+') : characters, 'base64')
}
