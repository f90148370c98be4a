/**
 * The clicked element and its parents as one text (ingestion spec §16.1), for SDKs that send `$elements` as a list:
 * `tag.class1.class2:name="value"name2="value2"` per element, joined by `;`. Classes and names are sorted, quotes in
 * values escaped. What is not of the expected type is left out.
 */
import type { Json, JsonObject } from '../identity/types.ts'
import { cut, isObject, own } from '../json.ts'

/** UTF-16 units. */
const TEXT_UNITS_MAX = 400
const HREF_UNITS_MAX = 2_048

export function elementsChain(elements: readonly Json[]): string {
  return elements.filter(isObject).map(elementText).join(';')
}

function elementText(element: JsonObject): string {
  const tag = scalarText(own(element, 'tag_name')) ?? ''
  const classes = classesOf(own(element, 'attr__class'))
  return `${[tag, ...classes].map(withoutQuotes).join('.')}:${attributesText(element)}`
}

function attributesText(element: JsonObject): string {
  const attributes = new Map<string, string>()
  for (const name of Object.keys(element)) {
    if (!name.startsWith('attr__')) continue
    const value = name === 'attr__class' ? classText(element[name]!) : scalarText(element[name]!)
    if (value !== undefined) attributes.set(withoutQuotes(name), value)
  }
  const text = scalarText(own(element, '$el_text'))
  if (text) attributes.set('text', cut(text, TEXT_UNITS_MAX))
  const href = scalarText(own(element, 'attr__href'))
  if (href) attributes.set('href', cut(href, HREF_UNITS_MAX))
  const id = scalarText(own(element, 'attr__id'))
  if (id) attributes.set('attr_id', id)
  attributes.set('nth-child', scalarText(own(element, 'nth_child')) ?? '0')
  attributes.set('nth-of-type', scalarText(own(element, 'nth_of_type')) ?? '0')
  return [...attributes]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => `${name}="${value.replaceAll('"', '\\"')}"`)
    .join('')
}

/** A list of names, or names in one text. */
function classesOf(value: Json | undefined): string[] {
  const names = typeof value === 'string' ? value.split(/\s+/) : Array.isArray(value) ? value : []
  return names.filter((name): name is string => typeof name === 'string' && name !== '').sort()
}

function classText(value: Json): string | undefined {
  return Array.isArray(value) ? classesOf(value).join(' ') : scalarText(value)
}

function scalarText(value: Json | undefined): string | undefined {
  if (typeof value === 'string') return value
  return typeof value === 'number' || typeof value === 'boolean' ? String(value) : undefined
}

function withoutQuotes(text: string): string {
  return text.replaceAll('"', '')
}
