/**
 * Objects of JSON lines in a bucket of S3 or what speaks like it: one object per batch, under a name that is made of the ids in
 * it, so a batch that is sent again as it was replaces itself. For large amounts an export is the better way: this one is
 * for having events within seconds. The signature is made here (Bun's presigning), the request goes our one way out.
 */
import { deliveryUuid } from '../../event/index.ts'
import { Options } from '../options.ts'
import { httpTarget } from './http-target.ts'
import type { TargetKind } from './target.ts'

const PRESIGNED_S = 900

export const S3: TargetKind = {
  kind: 's3',
  defaults: {
    access_key_id: { secret: 'access_key_id' },
    secret_access_key: { secret: 'secret_access_key' },
  },
  open(values, context) {
    const options = new Options('s3', values)
    const bucket = options.text('bucket')
    const region = options.text('region', 'us-east-1')
    const endpoint = options.url('endpoint', `https://s3.${region}.amazonaws.com`)
    const accessKeyId = options.text('access_key_id')
    const secretAccessKey = options.text('secret_access_key')
    const prefix = options.optionalText('prefix') ?? ''
    const batchMax = options.whole('batch', 1, 1_000, 1_000)
    options.done()
    if (!/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/.test(bucket))
      throw options.invalid('bucket', 'the name of a bucket')
    if (!/^[\w./=-]*$/.test(prefix) || prefix.includes('..'))
      throw options.invalid('prefix', 'of A-Z a-z 0-9 _ . / = -')
    const client = new Bun.S3Client({ accessKeyId, secretAccessKey, bucket, region, endpoint })
    return httpTarget(context, {
      batchMax,
      request(deliveries) {
        const { row } = deliveries[0]!.view
        const id = deliveryUuid(context.destinationId, deliveries.map((one) => one.id).join())
        // By when the first of them was received, which is the same at every attempt.
        const day = new Date(row.created_at).toISOString().slice(0, 10)
        const url = client.presign(`${prefix}${day}/${id}.jsonl`, { method: 'PUT', expiresIn: PRESIGNED_S })
        const lines = deliveries.map((one) => `{"id":"${one.id}",${one.view.json.slice(1)}`)
        return { method: 'PUT', url, headers: {}, body: `${lines.join('\n')}\n` }
      },
    })
  },
}
