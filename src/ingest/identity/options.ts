/**
 * What a project decides about its persons (docs/guides/identity.md). Looked up once per team and batch; the pipeline
 * answers from the projects of the batch (project-options.ts). What holds without a choice is written here alone.
 */
export type IdentityOptions = {
  /** Keys whose new value alone, of an event that is not about the person, is shown on the event but not stored. */
  suppressed: ReadonlySet<string>
  /** Which of two values of a property stays: the one that came last, or the one of the newest event. */
  propertyOrder: 'arrival' | 'eventTime'
  /** The project processes no persons: no personless event is counted to a person after the fact. */
  optedOut: boolean
}

export type OptionsOf = (teamId: number) => IdentityOptions

/** Keys that change with every page view: a new value alone is not worth a write (ingestion spec §7). */
export const SUPPRESSED_BY_DEFAULT: ReadonlySet<string> = new Set([
  '$current_url',
  '$pathname',
  '$referring_domain',
  '$referrer',
  '$screen_height',
  '$screen_width',
  '$viewport_height',
  '$viewport_width',
  '$browser',
  '$browser_version',
  '$device_type',
  '$raw_user_agent',
  '$os',
  '$os_name',
  '$os_version',
  '$geoip_postal_code',
  '$geoip_time_zone',
  '$geoip_latitude',
  '$geoip_longitude',
  '$geoip_accuracy_radius',
  '$geoip_subdivision_1_code',
  '$geoip_subdivision_1_name',
  '$geoip_subdivision_2_code',
  '$geoip_subdivision_2_name',
  '$geoip_subdivision_3_code',
  '$geoip_subdivision_3_name',
  '$geoip_city_confidence',
  '$geoip_country_confidence',
  '$geoip_postal_code_confidence',
  '$geoip_subdivision_1_confidence',
  '$geoip_subdivision_2_confidence',
])

export const DEFAULT_OPTIONS: IdentityOptions = {
  suppressed: SUPPRESSED_BY_DEFAULT,
  propertyOrder: 'arrival',
  optedOut: false,
}

export const defaultOptions: OptionsOf = () => DEFAULT_OPTIONS
