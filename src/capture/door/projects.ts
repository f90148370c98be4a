/** What the door asks of the catalogue. The wiring gives the real one; it keeps what it knows in memory. */

export type KnownProject = { teamId: number; settings: Record<string, unknown> }

export interface Projects {
  /** From memory: the project; null when it is known that there is none; undefined when the catalogue must be asked. */
  known(token: string): KnownProject | null | undefined
  /** Asks the catalogue; null when there is none, undefined when it cannot be reached in time. Never throws. */
  find(token: string): Promise<KnownProject | null | undefined>
}
