/** The built-in transformations, by the name under which a set uses them. */
import type { BuiltInKind } from './built-in.ts'
import { filter, sample } from './choose.ts'
import { schema } from './contract.ts'
import { bots, geoip, userAgent } from './enrich.ts'
import { nameStyle, renameEvents, renameProperties } from './names.ts'
import { anonymiseIp, hash, keepProperties, mask, removeProperties } from './privacy.ts'
import { maskUrlParameters, normaliseUrls } from './urls.ts'
import { firstTouch, flatten, parseTimestamps, propertyTypes } from './values.ts'

export const LIBRARY: Readonly<Record<string, BuiltInKind>> = {
  geoip,
  'user-agent': userAgent,
  bots,
  'anonymise-ip': anonymiseIp,
  hash,
  mask,
  'normalise-urls': normaliseUrls,
  'mask-url-parameters': maskUrlParameters,
  'remove-properties': removeProperties,
  'keep-properties': keepProperties,
  'rename-properties': renameProperties,
  'property-types': propertyTypes,
  filter,
  sample,
  flatten,
  'parse-timestamps': parseTimestamps,
  'first-touch': firstTouch,
  'name-style': nameStyle,
  'rename-events': renameEvents,
  schema,
}
