// Published resources as the specification names them: the fields of the wire with addresses, ports and gateways as
// people write them. For tests that compare with the specification, field by field.

import { type DescMessage, fromBinary, type MessageShape, toJson } from '@bufbuild/protobuf';
import { ipFromBytes } from '#net/ip.ts';
import * as policy from './gen/authorization_pb.js';
import * as wire from './gen/workload_pb.js';

type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json };
type JsonObject = Readonly<Record<string, Json>>;
export type Readable = Readonly<Record<string, unknown>>;

/**
 * `exact`: only fields that are not their defaults; else all that are not messages.
 *
 * A workload has `uid`, a service `hostname` and no `uid`. Messages that are absent have no field.
 */
export function readableAddress(bytes: Uint8Array, exact = false): Readable {
  const { type } = fromBinary(wire.AddressSchema, bytes);
  switch (type.case) {
    case 'workload':
      return shown(exact, {
        ...fieldsOf(wire.WorkloadSchema, type.value, exact),
        addresses: type.value.addresses.map(ipFromBytes),
        services: Object.fromEntries(
          Object.entries(type.value.services).map(([key, { ports }]) => [key, ports.map(port)]),
        ),
        waypoint: gateway(type.value.waypoint),
        network_gateway: gateway(type.value.networkGateway),
        locality: locality(type.value.locality),
      });
    case 'service':
      return shown(exact, {
        ...fieldsOf(wire.ServiceSchema, type.value, exact),
        addresses: type.value.addresses.map(networkAddress),
        ports: type.value.ports.map(port),
        weighted_waypoints: type.value.weightedWaypoints.map(
          ({ destination, weight }) => `${weight} ${gateway(destination)}`,
        ),
        waypoint: gateway(type.value.waypoint),
      });
    default:
      throw new TypeError('neither a workload nor a service');
  }
}

/** Groups are written as in §3: groups (OR) of rules (AND) of matches (OR). */
export function readableAuthorization(bytes: Uint8Array, exact = false): Readable {
  const message = fromBinary(policy.AuthorizationSchema, bytes);
  const { rules: _, ...fields } = fieldsOf(policy.AuthorizationSchema, message, exact);
  const groups = message.rules.map(({ clauses }) => clauses.map(({ matches }) => matches.map(match)));
  return shown(exact, { ...fields, groups });
}

function fieldsOf<S extends DescMessage>(schema: S, message: MessageShape<S>, exact: boolean): Readable {
  return toJson(schema, message, { useProtoFieldName: true, alwaysEmitImplicit: !exact }) as JsonObject;
}

function shown(exact: boolean, fields: Readable): Readable {
  if (!exact) return fields;
  return Object.fromEntries(
    Object.entries(fields).filter(([, value]) => value !== undefined && !isEmpty(value)),
  );
}

const isEmpty = (value: unknown): boolean =>
  typeof value === 'object' && value !== null && Object.keys(value).length === 0;

function locality(message: wire.Locality | undefined): string | undefined {
  return message === undefined ? undefined : [message.region, message.zone, message.subzone].join('/');
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

/** `ip NETWORK/ADDRESS:PORT` or `host NAMESPACE/NAME:PORT`. */
function gateway(message: wire.GatewayAddress | undefined): string | undefined {
  if (message === undefined) return undefined;
  switch (message.destination.case) {
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
