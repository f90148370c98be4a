/** The parts of OpenAPI 3.1 that the document of capture is made of. */

export type Schema = Record<string, unknown>

export type Parameter = {
  name: string
  in: 'query' | 'header' | 'path'
  required?: boolean
  description: string
  schema: Schema
  example?: unknown
}

export type MediaType = { schema: Schema; examples?: Record<string, { summary?: string; value: unknown }> }

export type Response = {
  description: string
  headers?: Record<string, { description: string; schema: Schema } | { $ref: string }>
  content?: Record<string, MediaType>
}

export type Operation = {
  operationId: string
  summary: string
  description?: string
  tags: string[]
  security?: Record<string, string[]>[]
  parameters?: Parameter[]
  requestBody?: { required: boolean; description: string; content: Record<string, MediaType> }
  responses: Record<string, Response | { $ref: string }>
}

export type Document = {
  openapi: '3.1.0'
  info: { title: string; version: string; summary: string; description: string; license: object }
  servers: { url: string; description: string }[]
  tags: { name: string; description: string }[]
  paths: Record<string, Record<string, Operation>>
  components: Record<string, Record<string, object>>
}

export const ref = (name: string): Schema => ({ $ref: `#/components/schemas/${name}` })

export const text = (description: string, more: Schema = {}): Schema => ({
  type: 'string',
  description,
  ...more,
})

/** An object of which `required` members are always there; more members are allowed, as on the wire. */
export function object(
  properties: Record<string, Schema>,
  required: string[] = [],
  description = '',
): Schema {
  return {
    type: 'object',
    ...(description ? { description } : {}),
    properties,
    ...(required.length > 0 ? { required } : {}),
  }
}

export const list = (items: Schema, description = '', more: Schema = {}): Schema => ({
  type: 'array',
  items,
  ...(description ? { description } : {}),
  ...more,
})
