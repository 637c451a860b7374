// Workload entries of the static state file, and the references that services share with them (ztunnel.md §1.6).

import type { GatewayRef, PortMap, ServiceKey, Workload, WorkloadUid } from '#model/workload.ts';
import { parseIp } from '#net/ip.ts';
import {
  boolean,
  entriesOf,
  Fields,
  integer,
  ipAddress,
  list,
  oneOf,
  port,
  portMap,
  text,
  type Value,
  wrong,
} from './fields.ts';

const KEYS = [
  'workloadIps',
  'namespace',
  'services',
  'uid',
  'name',
  'network',
  'node',
  'hostname',
  'workloadName',
  'workloadType',
  'canonicalName',
  'canonicalRevision',
  'clusterId',
  'trustDomain',
  'serviceAccount',
  'protocol',
  'networkMode',
  'waypoint',
  'networkGateway',
  'nativeTunnel',
  'applicationTunnel',
  'authorizationPolicies',
  'status',
  'locality',
  'capacity',
] as const;

const NO_LOCALITY: Workload['locality'] = { region: '', zone: '', subzone: '' };

/** Absent text is empty: unlike on the wire, nothing is put in its place. */
export function workload(entry: Value): Workload {
  const fields = new Fields(entry, KEYS);
  const string = (key: (typeof KEYS)[number]): string => fields.optional(key, text, '');
  return {
    uid: string('uid') as WorkloadUid,
    name: string('name'),
    namespace: fields.required('namespace', text),
    ips: fields.required('workloadIps', (ips) => list(ips, ipAddress)),
    network: string('network'),
    protocol: fields.optional('protocol', oneOf(['TCP', 'HBONE']), 'TCP'),
    networkMode: fields.optional('networkMode', oneOf(['Standard', 'HostNetwork']), 'Standard'),
    trustDomain: string('trustDomain'),
    serviceAccount: string('serviceAccount'),
    waypoint: fields.optional('waypoint', gateway, undefined),
    networkGateway: fields.optional('networkGateway', gateway, undefined),
    node: string('node'),
    hostname: string('hostname'),
    workloadName: string('workloadName'),
    workloadType: string('workloadType'),
    canonicalName: string('canonicalName'),
    canonicalRevision: string('canonicalRevision'),
    clusterId: string('clusterId'),
    nativeTunnel: fields.optional('nativeTunnel', boolean, false),
    applicationTunnel: fields.optional('applicationTunnel', applicationTunnel, undefined),
    authorizationPolicies: fields.optional('authorizationPolicies', (names) => list(names, namespaced), []),
    status: fields.optional('status', oneOf(['Healthy', 'Unhealthy']), 'Healthy'),
    locality: fields.optional('locality', locality, NO_LOCALITY),
    capacity: fields.optional('capacity', (value) => integer(value, 0xffff_ffff), 1),
    services: fields.required('services', services),
  };
}

/** `network/address`, or else `namespace/host name`. */
export function gateway(entry: Value): GatewayRef {
  const fields = new Fields(entry, ['destination', 'hboneMtlsPort']);
  return {
    destination: fields.required('destination', (value) => {
      const [before, after] = halves(value, '"NETWORK/ADDRESS" or "NAMESPACE/HOSTNAME"');
      const ip = parseIp(after);
      if (ip !== undefined) return { kind: 'address', address: { network: before, ip } };
      if (before === '') throw wrong(value, 'a namespace before the host name');
      return { kind: 'hostname', namespace: before, hostname: after };
    }),
    hbonePort: fields.required('hboneMtlsPort', port),
  };
}

/** What stands before and behind the first slash; the second half is never empty. */
export function halves(of: Value, form: string): readonly [string, string] {
  const given = text(of);
  const slash = given.indexOf('/');
  if (slash < 0 || slash === given.length - 1) throw wrong(of, form);
  return [given.slice(0, slash), given.slice(slash + 1)];
}

function namespaced(of: Value): string {
  const [namespace, name] = halves(of, '"NAMESPACE/NAME"');
  return `${namespace}/${name}`;
}

function applicationTunnel(entry: Value): NonNullable<Workload['applicationTunnel']> {
  const fields = new Fields(entry, ['protocol', 'port']);
  return {
    protocol: fields.required('protocol', oneOf(['NONE', 'PROXY'])),
    port: fields.optional('port', port, undefined),
  };
}

function locality(entry: Value): Workload['locality'] {
  const fields = new Fields(entry, ['region', 'zone', 'subzone']);
  return {
    region: fields.optional('region', text, ''),
    zone: fields.optional('zone', text, ''),
    subzone: fields.optional('subzone', text, ''),
  };
}

function services(map: Value): ReadonlyMap<ServiceKey, PortMap> {
  return new Map(
    entriesOf(map).map(({ key, at, value }) => {
      if (!/^[^/]+\/[^/]+$/.test(key)) throw wrong(at, 'keys of the form "NAMESPACE/HOSTNAME"');
      return [key as ServiceKey, portMap(value)];
    }),
  );
}
