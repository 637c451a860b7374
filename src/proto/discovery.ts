// Delta xDS requests and responses as plain values ⇄ bytes. The rules of the conversation are in `xds/`.

import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { MeshError } from '#base/errors.ts';
import * as wire from './gen/discovery_pb.js';

export const DELTA_DISCOVERY_PATH =
  '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources';

export type JsonValue = string | number | boolean | null | readonly JsonValue[] | JsonObject;
export interface JsonObject {
  readonly [key: string]: JsonValue;
}

export interface XdsNode {
  readonly id: string;
  readonly metadata: JsonObject;
}

export interface DeltaRequest {
  readonly node: XdsNode | undefined;
  readonly typeUrl: string;
  readonly subscribe: readonly string[];
  readonly unsubscribe: readonly string[];
  /** Name → version of what the client holds; only in the first request of a type on a stream. */
  readonly initialResourceVersions: ReadonlyMap<string, string>;
  readonly responseNonce: string;
  /** Present: the response was (partly) refused. */
  readonly error: { readonly code: number; readonly message: string } | undefined;
}

/** One resource as it travels: `value` is the payload inside the Any. */
export interface DeltaResource {
  readonly name: string;
  readonly version: string;
  readonly typeUrl: string;
  readonly value: Uint8Array;
  /** Other names under which it may have been asked for; on on-demand subscriptions only. */
  readonly aliases?: readonly string[];
}

export interface DeltaResponse {
  readonly systemVersionInfo: string;
  readonly typeUrl: string;
  readonly nonce: string;
  readonly resources: readonly DeltaResource[];
  readonly removed: readonly string[];
}

export const NO_VERSIONS: ReadonlyMap<string, string> = new Map();

/** A request with everything empty but the type. */
export function deltaRequest(
  typeUrl: string,
  fields: Partial<Omit<DeltaRequest, 'typeUrl'>> = {},
): DeltaRequest {
  return {
    node: undefined,
    typeUrl,
    subscribe: [],
    unsubscribe: [],
    initialResourceVersions: NO_VERSIONS,
    responseNonce: '',
    error: undefined,
    ...fields,
  };
}

export function encodeDeltaRequest(request: DeltaRequest): Uint8Array {
  return toBinary(wire.DeltaDiscoveryRequestSchema, deltaRequestTo(request));
}

/** @throws MeshError `XDS_PROTOCOL` */
export function decodeDeltaRequest(bytes: Uint8Array): DeltaRequest {
  return deltaRequestFrom(parse(wire.DeltaDiscoveryRequestSchema, bytes, 'DeltaDiscoveryRequest'));
}

export function encodeDeltaResponse(response: DeltaResponse): Uint8Array {
  return toBinary(wire.DeltaDiscoveryResponseSchema, deltaResponseTo(response));
}

/** @throws MeshError `XDS_PROTOCOL` */
export function decodeDeltaResponse(bytes: Uint8Array): DeltaResponse {
  const message = parse(wire.DeltaDiscoveryResponseSchema, bytes, 'DeltaDiscoveryResponse');
  return {
    systemVersionInfo: message.systemVersionInfo,
    typeUrl: message.typeUrl,
    nonce: message.nonce,
    resources: message.resources.map(({ name, version, resource, aliases }) => ({
      name,
      version,
      typeUrl: resource?.typeUrl ?? '',
      value: resource?.value ?? new Uint8Array(),
      ...(aliases.length === 0 ? {} : { aliases }),
    })),
    removed: message.removedResources,
  };
}

function deltaRequestTo(request: DeltaRequest): wire.DeltaDiscoveryRequest {
  return create(wire.DeltaDiscoveryRequestSchema, {
    ...(request.node === undefined
      ? {}
      : {
          node: create(wire.NodeSchema, {
            id: request.node.id,
            metadata: request.node.metadata as NonNullable<wire.Node['metadata']>,
          }),
        }),
    typeUrl: request.typeUrl,
    resourceNamesSubscribe: [...request.subscribe],
    resourceNamesUnsubscribe: [...request.unsubscribe],
    initialResourceVersions: Object.fromEntries(request.initialResourceVersions),
    responseNonce: request.responseNonce,
    ...(request.error === undefined ? {} : { errorDetail: create(wire.StatusSchema, request.error) }),
  });
}

function deltaRequestFrom(message: wire.DeltaDiscoveryRequest): DeltaRequest {
  const { node, errorDetail } = message;
  return {
    node: node === undefined ? undefined : { id: node.id, metadata: node.metadata ?? {} },
    typeUrl: message.typeUrl,
    subscribe: message.resourceNamesSubscribe,
    unsubscribe: message.resourceNamesUnsubscribe,
    initialResourceVersions: new Map(Object.entries(message.initialResourceVersions)),
    responseNonce: message.responseNonce,
    error: errorDetail === undefined ? undefined : { code: errorDetail.code, message: errorDetail.message },
  };
}

function deltaResponseTo(response: DeltaResponse): wire.DeltaDiscoveryResponse {
  return create(wire.DeltaDiscoveryResponseSchema, {
    systemVersionInfo: response.systemVersionInfo,
    typeUrl: response.typeUrl,
    nonce: response.nonce,
    resources: response.resources.map(({ name, version, typeUrl, value, aliases }) =>
      create(wire.ResourceSchema, {
        name,
        version,
        resource: { typeUrl, value },
        aliases: [...(aliases ?? [])],
      }),
    ),
    removedResources: [...response.removed],
  });
}

function parse<S extends Parameters<typeof fromBinary>[0]>(
  schema: S,
  bytes: Uint8Array,
  name: string,
): ReturnType<typeof fromBinary<S>> {
  try {
    return fromBinary(schema, bytes, { readUnknownFields: false });
  } catch (error) {
    throw MeshError.from(error, 'XDS_PROTOCOL', `not a ${name}`);
  }
}
