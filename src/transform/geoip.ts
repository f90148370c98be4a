/**
 * Where an address is, from a file in MaxMind's format (GeoLite2 and GeoIP2 City or Country, DB-IP, and others). In: the
 * file, whole in memory while the process lives, so that it decides alike from one batch to the next. Out: what is known,
 * under the names of `$geoip_…`; nothing that is not. 20 µs for an address that was not asked for lately, else 0.1.
 */
import { readFileSync } from 'node:fs'
import ipaddr from 'ipaddr.js'
import { type CityResponse, Reader } from 'mmdb-lib'
import type { JsonObject } from '../event/index.ts'
import { remembered } from './agents.ts'
import { transformError } from './errors.ts'
import type { HostHelpers } from './helpers.ts'

/** HR_TRANSFORM_GEOIP when the file cannot be read. */
export function openGeoip(path: string): HostHelpers['geoip'] {
  let reader: Reader<CityResponse>
  try {
    reader = new Reader<CityResponse>(readFileSync(path))
  } catch (cause) {
    throw transformError(
      'HR_TRANSFORM_GEOIP',
      `HEADRACE_GEOIP_DATABASE names ${path}, which cannot be read as a MaxMind database: ${(cause as Error).message}`,
      cause,
    )
  }
  return remembered((ip: string) => {
    if (!ipaddr.isValid(ip)) return null
    const record = reader.get(ipaddr.process(ip).toString())
    return record ? placeOf(record) : null
  })
}

function placeOf({ city, subdivisions, country, continent, postal, location }: CityResponse): JsonObject {
  const [first, second] = subdivisions ?? []
  const fields = {
    city_name: city?.names?.en,
    subdivision_1_code: first?.iso_code,
    subdivision_1_name: first?.names?.en,
    subdivision_2_code: second?.iso_code,
    subdivision_2_name: second?.names?.en,
    country_code: country?.iso_code,
    country_name: country?.names?.en,
    continent_code: continent?.code,
    continent_name: continent?.names?.en,
    postal_code: postal?.code,
    latitude: location?.latitude,
    longitude: location?.longitude,
    accuracy_radius: location?.accuracy_radius,
    time_zone: location?.time_zone,
  }
  const place: JsonObject = {}
  for (const [name, value] of Object.entries(fields)) if (value !== undefined) place[name] = value
  return place
}
