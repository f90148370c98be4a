/**
 * Every route of capture, by protocol. The server serves these and the OpenAPI document describes these, so that no
 * path can be in one and not in the other.
 */
import type { ProtocolOptions } from './protocols/options.ts'
import { QUIET_ROUTES, quietRoute } from './protocols/quiet/index.ts'
import { segmentRoutes, segmentSettingsRoute } from './protocols/segment/index.ts'
import { v0Routes } from './protocols/v0/index.ts'
import { v1Routes } from './protocols/v1/index.ts'
import type { Route, Routes } from './request.ts'

export type Protocol = 'v0' | 'v1' | 'segment' | 'quiet'

export function routesByProtocol(options: ProtocolOptions): Record<Protocol, Routes> {
  return {
    v0: v0Routes(options),
    v1: v1Routes(options),
    segment: segmentRoutes(options),
    quiet: QUIET_ROUTES,
  }
}

/** The routes of all protocols; no two have a path in common. */
export function captureRoutes(options: ProtocolOptions): Routes {
  return new Map(Object.values(routesByProtocol(options)).flatMap((routes) => [...routes]))
}

/** Routes whose path holds a variable part; undefined for other paths. */
export function dynamicRoute(path: string): Route | undefined {
  return quietRoute(path) ?? segmentSettingsRoute(path)
}
