// What istioctl asks a control plane for and is answered: requests of the state-of-the-world variant of xDS, and the state
// of each proxy's configuration as a ClientConfig (control-plane.md §10.4).

import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import { MeshError } from '#base/errors.ts';
import type { JsonObject, XdsNode } from './discovery.ts';
import * as wire from './gen/status_pb.js';

export const CLIENT_CONFIG_TYPE_URL = 'type.googleapis.com/envoy.service.status.v3.ClientConfig';

export interface StateRequest {
  readonly node: XdsNode | undefined;
  readonly typeUrl: string;
  readonly names: readonly string[];
  readonly responseNonce: string;
}

/** @throws MeshError `XDS_PROTOCOL` */
export function decodeStateRequest(bytes: Uint8Array): StateRequest {
  try {
    const message = fromBinary(wire.DiscoveryRequestSchema, bytes, { readUnknownFields: false });
    const { node, typeUrl, resourceNames, responseNonce } = message;
    return {
      node: node === undefined ? undefined : { id: node.id, metadata: node.metadata ?? {} },
      typeUrl,
      names: resourceNames,
      responseNonce,
    };
  } catch (error) {
    throw MeshError.from(error, 'XDS_PROTOCOL', 'not a DiscoveryRequest');
  }
}

export interface StateResponse {
  readonly version: string;
  readonly typeUrl: string;
  readonly nonce: string;
  /** Who answers, as JSON. */
  readonly controlPlane: string;
  readonly resources: readonly { readonly typeUrl: string; readonly bytes: Uint8Array }[];
}

export function encodeStateResponse(response: StateResponse): Uint8Array {
  const message = create(wire.DiscoveryResponseSchema, {
    versionInfo: response.version,
    typeUrl: response.typeUrl,
    nonce: response.nonce,
    controlPlane: { identifier: response.controlPlane },
    resources: response.resources.map(({ typeUrl, bytes }) => ({ typeUrl, value: bytes })),
  });
  return toBinary(wire.DiscoveryResponseSchema, message);
}

export type ConfigState = keyof typeof CONFIG_STATES;

const CONFIG_STATES = {
  synced: wire.ConfigStatus.SYNCED,
  'not sent': wire.ConfigStatus.NOT_SENT,
  stale: wire.ConfigStatus.STALE,
  error: wire.ConfigStatus.ERROR,
} as const;

export interface ClientConfig {
  readonly nodeId: string;
  readonly metadata: JsonObject;
  readonly types: readonly {
    readonly typeUrl: string;
    readonly state: ConfigState;
    readonly updatedAt: Date | undefined;
    /** The client's words, when it refused. */
    readonly error: string | undefined;
  }[];
}

export function encodeClientConfig({ nodeId, metadata, types }: ClientConfig): Uint8Array {
  const message = create(wire.ClientConfigSchema, {
    node: { id: nodeId, metadata: metadata as NonNullable<wire.StatusNode['metadata']> },
    genericXdsConfigs: types.map(({ typeUrl, state, updatedAt, error }) => {
      const at = updatedAt === undefined ? {} : { lastUpdated: timestampFromDate(updatedAt) };
      const lastUpdateAttempt =
        updatedAt === undefined ? {} : { lastUpdateAttempt: timestampFromDate(updatedAt) };
      return {
        typeUrl,
        configStatus: CONFIG_STATES[state],
        ...at,
        ...(error === undefined ? {} : { errorState: { ...lastUpdateAttempt, details: error } }),
      };
    }),
  });
  return toBinary(wire.ClientConfigSchema, message);
}
