// The tables of `culvert ztunnel-config`, with istioctl's columns. Pure: a dump in, text out.

import { renderTable } from '../table.ts';
import type {
  Dump,
  DumpCertificate,
  DumpConnection,
  DumpIdentity,
  DumpPolicy,
  DumpService,
  DumpState,
  DumpWorkload,
  Gateway,
} from './dump.ts';

const byName = (
  a: { readonly namespace: string; readonly name: string },
  b: { readonly namespace: string; readonly name: string },
): number => compare(a.namespace, b.namespace) || compare(a.name, b.name);

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
const same = (wanted: string | undefined, value: string | undefined): boolean =>
  wanted === undefined || wanted.toLowerCase() === value?.toLowerCase();

export interface WorkloadFilter {
  readonly namespace?: string | undefined;
  readonly node?: string | undefined;
  readonly address?: string | undefined;
}

export const selectWorkloads = (dump: Dump, filter: WorkloadFilter): DumpWorkload[] =>
  dump.workloads
    .filter(
      (workload) =>
        same(filter.namespace, workload.namespace) &&
        same(filter.node, workload.node) &&
        (filter.address === undefined || (workload.workloadIps ?? []).includes(filter.address)),
    )
    .sort((a, b) => byName(a, b) || compare(a.node ?? '', b.node ?? ''));

export function workloadTable(dump: Dump, filter: WorkloadFilter = {}, wide = false): string {
  const header = ['NAMESPACE', 'POD NAME', 'ADDRESS', 'NODE', 'WAYPOINT', 'PROTOCOL'];
  const rows = selectWorkloads(dump, filter).map((workload) => [
    workload.namespace,
    workload.name,
    (workload.workloadIps ?? []).join(',') || (workload.hostname ?? ''),
    workload.node ?? '',
    waypointName(workload.waypoint, dump),
    workload.protocol ?? '',
    ...(wide ? [workload.serviceAccount ?? '', workload.status ?? '', workload.clusterId ?? ''] : []),
  ]);
  return renderTable(wide ? [...header, 'SERVICE ACCOUNT', 'STATUS', 'CLUSTER'] : header, rows);
}

/** `None`, the service's name, or `NA` when the dump does not know where the reference leads. */
function waypointName(waypoint: Gateway | undefined, { services }: Dump): string {
  if (waypoint === undefined) return 'None';
  const { destination } = waypoint;
  const found = services.find(
    ({ namespace, hostname, vips }) =>
      `${namespace}/${hostname}` === destination || (vips ?? []).includes(destination),
  );
  return found?.name ?? 'NA';
}

export const selectServices = (dump: Dump, namespace?: string): DumpService[] =>
  dump.services
    .filter((service) => same(namespace, service.namespace))
    .sort((a, b) => byName(a, b) || compare(a.hostname, b.hostname));

export function serviceTable(dump: Dump, namespace?: string, wide = false): string {
  const header = ['NAMESPACE', 'SERVICE NAME', 'SERVICE VIP', 'WAYPOINT', 'ENDPOINTS'];
  const healthyUids = new Set(
    dump.workloads.filter(({ status }) => status === 'Healthy').map(({ uid }) => uid),
  );
  const rows = selectServices(dump, namespace).map((service) => {
    const endpoints = Object.entries(service.endpoints ?? {});
    // As istioctl counts: by the state of the workload behind the endpoint.
    const healthy = endpoints.filter(([key, { workloadUid = key }]) => healthyUids.has(workloadUid)).length;
    return [
      service.namespace,
      service.name,
      (service.vips ?? []).map((vip) => vip.replace(/^[^/]*\//, '')).join(','),
      waypointName(service.waypoint, dump),
      `${healthy}/${endpoints.length}`,
      ...(wide
        ? [
            service.hostname,
            Object.entries(service.ports ?? {})
              .map(([port, target]) => `${port}→${target}`)
              .join(','),
          ]
        : []),
    ];
  });
  return renderTable(wide ? [...header, 'HOSTNAME', 'PORTS'] : header, rows);
}

export const selectPolicies = (dump: Dump, namespace?: string): DumpPolicy[] =>
  dump.policies.filter((policy) => same(namespace, policy.namespace)).sort(byName);

export function policyTable(dump: Dump, namespace?: string, wide = false): string {
  const header = ['NAMESPACE', 'POLICY NAME', 'ACTION', 'SCOPE'];
  const rows = selectPolicies(dump, namespace).map((policy) => [
    policy.namespace,
    policy.name,
    policy.action,
    policy.scope,
    ...(wide ? [String(policy.rules?.length ?? 0), String(policy.dryRun ?? false)] : []),
  ]);
  return renderTable(wide ? [...header, 'RULES', 'DRY RUN'] : header, rows);
}

const CERTIFICATE_HEADER = [
  'CERTIFICATE NAME',
  'TYPE',
  'STATUS',
  'VALID CERT',
  'SERIAL NUMBER',
  'NOT AFTER',
  'NOT BEFORE',
];
const CERTIFICATE_GAP = 5;

export function certificateTable(certificates: readonly DumpIdentity[], nowMs: number): string {
  const rows = certificates.flatMap(({ identity, state, certChain = [], rootCerts = [] }) => {
    const status = state.startsWith('Unavailable') ? 'Unavailable' : state;
    if (certChain.length === 0) return [[identity, 'NA', status, 'false', 'NA', 'NA', 'NA']];
    const row = (certificate: DumpCertificate, type: string): string[] => [
      identity,
      type,
      status,
      String(isValid(certificate, nowMs)),
      serialInHex(certificate.serialNumber),
      certificate.expirationTime || 'NA',
      certificate.validFrom || 'NA',
    ];
    const typeOf = (index: number): string => {
      if (index === 0) return 'Leaf';
      // Older versions keep the root at the end of the chain.
      return rootCerts.length === 0 && index === certChain.length - 1 ? 'Root' : 'Intermediate';
    };
    return [
      ...certChain.map((certificate, index) => row(certificate, typeOf(index))),
      ...rootCerts.map((certificate) => row(certificate, 'Root')),
    ];
  });
  return renderTable(CERTIFICATE_HEADER, rows, CERTIFICATE_GAP);
}

const isValid = ({ validFrom, expirationTime }: DumpCertificate, nowMs: number): boolean =>
  Date.parse(validFrom) < nowMs && nowMs < Date.parse(expirationTime);

const serialInHex = (serial: string): string =>
  /^\d+$/.test(serial) ? BigInt(serial).toString(16) : serial || 'NA';

export interface ConnectionFilter {
  readonly namespace?: string | undefined;
  readonly direction?: 'inbound' | 'outbound' | undefined;
  /** Addresses instead of names. */
  readonly raw?: boolean | undefined;
}

export const selectStates = (dump: Dump, { namespace }: ConnectionFilter): DumpState[] =>
  dump.workloadState
    .filter(({ info }) => namespace === undefined || info?.namespace === namespace)
    .sort((a, b) => byName(infoOf(a), infoOf(b)));

const infoOf = ({ info }: DumpState): { namespace: string; name: string } =>
  info ?? { namespace: '', name: 'unknown' };

export function connectionTable(dump: Dump, filter: ConnectionFilter = {}): string {
  const named = filter.raw === true ? (address: string): string => address : nameLookup(dump);
  const rows = selectStates(dump, filter).flatMap((state) => {
    const { name, namespace } = infoOf(state);
    const row = (direction: string, { local, remote, target, protocol }: Ends): string[] => [
      `${name}.${namespace}`,
      direction,
      named(local),
      named(remote),
      named(target),
      protocol,
    ];
    const { inbound = [], outbound = [] } = state.connections ?? {};
    return [
      ...(filter.direction === 'outbound' ? [] : inbound.map((one) => row('Inbound', inboundEnds(one)))),
      ...(filter.direction === 'inbound' ? [] : outbound.map((one) => row('Outbound', outboundEnds(one)))),
    ];
  });
  return renderTable(['WORKLOAD', 'DIRECTION', 'LOCAL', 'REMOTE', 'REMOTE TARGET', 'PROTOCOL'], rows);
}

interface Ends {
  readonly local: string;
  readonly remote: string;
  readonly target: string;
  readonly protocol: string;
}

const inboundEnds = ({ src, originalDst, actualDst = '', protocol = '' }: DumpConnection): Ends => ({
  local: actualDst,
  remote: src,
  target: originalDst ?? '',
  protocol,
});

const outboundEnds = ({ src, originalDst, actualDst = '', protocol = '' }: DumpConnection): Ends => ({
  local: src,
  remote: actualDst,
  target: originalDst ?? '',
  protocol,
});

/** `10.96.0.20:80` → `catalog.shop.svc.cluster.local:80`, `10.244.1.3:80` → `web-x.shop:80`. */
function nameLookup({ services, workloads }: Dump): (address: string) => string {
  const names = new Map<string, string>();
  for (const { name, namespace, workloadIps = [] } of workloads)
    for (const ip of workloadIps) names.set(ip, `${name}.${namespace}`);
  for (const { hostname, vips = [] } of services)
    for (const vip of vips) names.set(vip.replace(/^[^/]*\//, ''), hostname);
  return (address) => {
    const colon = address.lastIndexOf(':');
    const name = names.get(address.slice(0, colon).replace(/^\[|\]$/g, ''));
    return colon < 0 || name === undefined ? address : `${name}${address.slice(colon)}`;
  };
}

/** Several proxies in one: what is the same everywhere is taken from the first, what is each one's own from all. */
export function mergeDumps(dumps: readonly Dump[]): Dump {
  const [first] = dumps;
  if (first === undefined) throw new TypeError('nothing to merge');
  const identities = new Map<string, DumpIdentity>();
  for (const { certificates } of dumps)
    for (const entry of certificates)
      identities.set(`${entry.identity} ${entry.certChain?.[0]?.serialNumber ?? entry.state}`, entry);
  return {
    ...first,
    certificates: [...identities.values()].sort((a, b) => compare(a.identity, b.identity)),
    workloadState: dumps.flatMap(({ workloadState }) => workloadState),
  };
}
