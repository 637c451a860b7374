// `istio.workload.Workload` out of an encoded `istio.workload.Address`, which is nothing but a wrapper around it: for the
// xDS type of that name. Apart from workload.ts because node proxies have no use for it.

import { BinaryReader } from '@bufbuild/protobuf/wire';
import * as wire from './gen/workload_pb.js';

export const WORKLOAD_TYPE_URL = 'type.googleapis.com/istio.workload.Workload';

/** The bytes are shared with the address; undefined for a service. */
export function workloadIn(address: Uint8Array): Uint8Array | undefined {
  const reader = new BinaryReader(address);
  const [field] = reader.tag();
  return field === wire.AddressSchema.field.workload.number ? reader.bytes() : undefined;
}
