// Published resources as the specification names them: the fields of the wire with addresses, ports and gateways as
// people write them. For tests that compare with the specification, field by field.

import { fromBinary, toJson } from '@bufbuild/protobuf';
import { ipFromBytes } from '#net/ip.ts';
import * as policy from './gen/authorization_pb.js';
import * as wire from './gen/workload_pb.js';

type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json };
type JsonObject = Readonly<Record<string, Json>>;
export type Readable = Readonly<Record<string, unknown>>;

const OPTIONS = { useProtoFieldName: true, alwaysEmitImplicit: true } as const;

/** A workload has `uid`, a service `hostname` and no `uid`. Messages that are absent have no field. */
export function readableAddress(bytes: Uint8Array): Readable {
  const { type } = fromBinary(wire.AddressSchema, bytes);
  if (type.case === 'workload') {
    const json = toJson(wire.WorkloadSchema, type.value, OPTIONS) as JsonObject;
    return {
      ...json,
      addresses: type.value.addresses.map(ipFromBytes),
      services: Object.fromEntries(
        Object.entries(type.value.services).map(([key, { ports }]) => [key, ports.map(port)]),
      ),
      ...gateways(type.value),
      ...(type.value.locality === undefined
        ? {}
        : {
            locality: Object.values(toJson(wire.LocalitySchema, type.value.locality, OPTIONS) as object).join(
              '/',
            ),
          }),
    };
  }
  if (type.case !== 'service') throw new TypeError('neither a workload nor a service');
  return {
    ...(toJson(wire.ServiceSchema, type.value, OPTIONS) as JsonObject),
    addresses: type.value.addresses.map(networkAddress),
    ports: type.value.ports.map(port),
    weighted_waypoints: type.value.weightedWaypoints.map(
      ({ destination, weight }) => `${weight} ${gateway(destination)}`,
    ),
    ...gateways(type.value),
  };
}

/** Groups are written as in §3: groups (OR) of rules (AND) of matches (OR). */
export function readableAuthorization(bytes: Uint8Array): Readable {
  const message = fromBinary(policy.AuthorizationSchema, bytes);
  const { rules, ...json } = toJson(policy.AuthorizationSchema, message, OPTIONS) as JsonObject;
  return {
    ...json,
    groups: message.rules.map(({ clauses }) => clauses.map(({ matches }) => matches.map(match))),
  };
}

function match(message: policy.Match): Readable {
  const fields = toJson(policy.MatchSchema, message, { useProtoFieldName: true }) as JsonObject;
  return Object.fromEntries(
    Object.entries(fields).map(([name, values]) => [name, (values as readonly Json[]).map(condition)]),
  );
}

/** `exact a`, `presence`, `10.0.0.0/8`, `ns/account`, a port. */
function condition(value: Json): unknown {
  if (typeof value !== 'object' || value === null) return value;
  const entries = value as JsonObject;
  if (typeof entries.address === 'string')
    return `${ipFromBytes(Buffer.from(entries.address, 'base64'))}/${entries.length ?? 0}`;
  if ('serviceAccount' in entries || 'namespace' in entries)
    return `${entries.namespace ?? ''}/${entries.serviceAccount ?? ''}`;
  const [kind, text] = Object.entries(entries)[0] ?? ['empty', ''];
  return typeof text === 'string' ? `${kind} ${text}` : kind;
}

function port({ servicePort, targetPort, appProtocol }: wire.Port): string {
  const protocol = appProtocol === wire.AppProtocol.UNKNOWN ? '' : ` ${wire.AppProtocol[appProtocol]}`;
  return `${servicePort}:${targetPort}${protocol}`;
}

function networkAddress({ network, address, length }: wire.NetworkAddress): string {
  return `${network}/${ipFromBytes(address)}${length === undefined ? '' : `/${length}`}`;
}

function gateways(message: wire.Workload | wire.Service): Readable {
  return {
    ...(message.waypoint === undefined ? {} : { waypoint: gateway(message.waypoint) }),
    ...('networkGateway' in message && message.networkGateway !== undefined
      ? { network_gateway: gateway(message.networkGateway) }
      : {}),
  };
}

/** `ip NETWORK/ADDRESS:PORT` or `host NAMESPACE/NAME:PORT`. */
function gateway(message: wire.GatewayAddress | undefined): string {
  switch (message?.destination.case) {
    case 'address':
      return `ip ${networkAddress(message.destination.value)}:${message.hboneMtlsPort}`;
    case 'hostname': {
      const { namespace, hostname } = message.destination.value;
      return `host ${namespace}/${hostname}:${message.hboneMtlsPort}`;
    }
    default:
      return 'nowhere';
  }
}
