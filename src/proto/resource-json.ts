// Resources as proto3 JSON: for people and tools, on debug pages of the control plane.

import { type DescMessage, fromBinary, type JsonObject, type JsonValue, toJson } from '@bufbuild/protobuf';
import { ipFromBytes } from '#net/ip.ts';
import { AUTHORIZATION_TYPE_URL } from './authorization.ts';
import { AuthorizationSchema } from './gen/authorization_pb.js';
import { AddressSchema, WorkloadSchema } from './gen/workload_pb.js';
import { ADDRESS_TYPE_URL } from './workload.ts';
import { WORKLOAD_TYPE_URL } from './workload-part.ts';

const SCHEMAS: ReadonlyMap<string, DescMessage> = new Map<string, DescMessage>([
  [ADDRESS_TYPE_URL, AddressSchema],
  [WORKLOAD_TYPE_URL, WorkloadSchema],
  [AUTHORIZATION_TYPE_URL, AuthorizationSchema],
]);

/** Of the three types that are served, as an `Any`; addresses are base64, as the JSON of `bytes` is. */
export function resourceJson(typeUrl: string, bytes: Uint8Array): JsonObject {
  return { '@type': typeUrl, ...jsonOf(typeUrl, bytes) };
}

/** The resource alone, its addresses as text. */
export function readableJson(typeUrl: string, bytes: Uint8Array): JsonObject {
  return JSON.parse(JSON.stringify(jsonOf(typeUrl, bytes), withTextAddresses)) as JsonObject;
}

function jsonOf(typeUrl: string, bytes: Uint8Array): JsonObject {
  const schema = SCHEMAS.get(typeUrl);
  if (schema === undefined) throw new Error(`${typeUrl} is no type of resource`);
  return toJson(schema, fromBinary(schema, bytes)) as JsonObject;
}

/** In these types whatever is called so, and is no message, is an address of four or sixteen bytes. */
function withTextAddresses(key: string, value: JsonValue): JsonValue {
  if (key === 'address' && typeof value === 'string') return addressText(value);
  if (key === 'addresses' && Array.isArray(value))
    return value.map((it) => (typeof it === 'string' ? addressText(it) : it));
  return value;
}

const addressText = (base64: string): string => ipFromBytes(Buffer.from(base64, 'base64'));
