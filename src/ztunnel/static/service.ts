// Service entries of the static state file (ztunnel.md §1.6).

import type { Service } from '#model/service.ts';
import type { NetworkAddress, PortMap, WorkloadUid } from '#model/workload.ts';
import { parseIp } from '#net/ip.ts';
import {
  boolean,
  cidr,
  entriesOf,
  Fields,
  integer,
  list,
  oneOf,
  portMap,
  text,
  type Value,
  wrong,
} from './fields.ts';
import { gateway, halves } from './workload.ts';

const KEYS = [
  'name',
  'namespace',
  'hostname',
  'vips',
  'ports',
  'cidrVips',
  'endpoints',
  'subjectAltNames',
  'waypoint',
  'weightedWaypoints',
  'loadBalancer',
  'ipFamilies',
  'canonical',
  'visibility',
] as const;

/** A workload that the service names as its endpoint, rather than the workload the service. */
export interface NamedEndpoint {
  readonly at: Value;
  readonly uid: WorkloadUid;
  readonly ports: PortMap;
}

export function service(entry: Value): {
  readonly service: Service;
  readonly endpoints: readonly NamedEndpoint[];
} {
  const fields = new Fields(entry, KEYS);
  return {
    service: {
      name: fields.required('name', text),
      namespace: fields.required('namespace', text),
      hostname: fields.required('hostname', text),
      vips: fields.required('vips', (vips) => list(vips, networkAddress)),
      ports: fields.required('ports', portMap),
      cidrVips: fields.optional('cidrVips', (ranges) => list(ranges, range), []),
      subjectAltNames: fields.optional('subjectAltNames', (names) => list(names, text), []),
      waypoint: fields.optional('waypoint', gateway, undefined),
      weightedWaypoints: fields.optional('weightedWaypoints', (waypoints) => list(waypoints, weighted), []),
      loadBalancer: fields.optional('loadBalancer', loadBalancer, undefined),
      ipFamilies: fields.optional('ipFamilies', oneOf(['Dual', 'IPv4', 'IPv6']), undefined),
      canonical: fields.optional('canonical', boolean, false),
      visibility: fields.optional('visibility', oneOf(['Public', 'Namespace']), 'Public'),
    },
    endpoints: fields.optional('endpoints', (map) => entriesOf(map).map(({ value }) => endpoint(value)), []),
  };
}

function networkAddress(of: Value): NetworkAddress {
  const [network, address] = halves(of, '"NETWORK/ADDRESS" ("/ADDRESS" without a network)');
  const ip = parseIp(address);
  if (ip === undefined) throw wrong(of, 'an IP address behind the slash');
  return { network, ip };
}

function range(of: Value): Service['cidrVips'][number] {
  const fields = new Fields(of, ['network', 'cidr']);
  return { network: fields.optional('network', text, ''), cidr: fields.required('cidr', cidr) };
}

function weighted(of: Value): Service['weightedWaypoints'][number] {
  const fields = new Fields(of, ['destination', 'weight']);
  return {
    destination: fields.required('destination', gateway),
    weight: fields.required('weight', (weight) => integer(weight, 0xffff_ffff)),
  };
}

function loadBalancer(of: Value): NonNullable<Service['loadBalancer']> {
  const fields = new Fields(of, ['routingPreferences', 'mode', 'healthPolicy']);
  const scope = oneOf(['Region', 'Zone', 'Subzone', 'Node', 'Cluster', 'Network']);
  return {
    routingPreferences: fields.optional('routingPreferences', (scopes) => list(scopes, scope), []),
    mode: fields.optional('mode', oneOf(['Standard', 'Strict', 'Failover', 'Passthrough']), 'Standard'),
    healthPolicy: fields.optional('healthPolicy', oneOf(['OnlyHealthy', 'AllowAll']), 'OnlyHealthy'),
  };
}

/** Health is the workload's own here, so an endpoint cannot say otherwise. */
function endpoint(of: Value): NamedEndpoint {
  const fields = new Fields(of, ['workloadUid', 'port', 'status']);
  fields.optional(
    'status',
    (status) => {
      if (text(status) !== 'Healthy')
        throw wrong(status, 'Healthy; a workload\'s own "status" says that it is not');
    },
    undefined,
  );
  return {
    at: of,
    uid: fields.required('workloadUid', text) as WorkloadUid,
    ports: fields.required('port', portMap),
  };
}
